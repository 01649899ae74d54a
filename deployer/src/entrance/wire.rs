//! What agent and entrance say to each other: one JSON object a line, a request and its answer in turn. Pure.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Longest line on the control socket: a request names a gate and a handful of ports.
pub(super) const LINE_BYTES_MAX: u64 = 64 * 1024;

/// One port of a gate: where the host listens, and where the program inside its namespace does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Address on the host.
    pub listen: SocketAddr,
    /// Port inside the namespace.
    pub port: u16,
}

/// What the agent asks for. Every request may be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Listen on these ports; a new gate leads nowhere yet, so what it accepts waits.
    Open {
        /// Name of the gate: one per app.
        gate: String,
        /// Its ports.
        ports: Vec<Port>,
    },
    /// Lead the gate to the network namespace of a process; held or not stays as it is.
    Route {
        /// The gate.
        gate: String,
        /// A process in the namespace.
        pid: u32,
    },
    /// Accept and wait: no byte is passed on to the program.
    Hold {
        /// The gate.
        gate: String,
    },
    /// Wait until every request that reached the program was answered.
    Drain {
        /// The gate.
        gate: String,
        /// Wait no longer than this.
        within_ms: u64,
    },
    /// Let what waits go on.
    Release {
        /// The gate.
        gate: String,
    },
    /// Stop listening; connections in progress end by themselves.
    Close {
        /// The gate.
        gate: String,
    },
    /// Figures of every gate.
    Stats,
    /// End the process.
    Stop,
}

impl Request {
    /// The name on the wire.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::Route { .. } => "route",
            Self::Hold { .. } => "hold",
            Self::Drain { .. } => "drain",
            Self::Release { .. } => "release",
            Self::Close { .. } => "close",
            Self::Stats => "stats",
            Self::Stop => "stop",
        }
    }
}

/// What the entrance answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is so now.
    Done,
    /// Result of `drain`.
    Drained {
        /// Connections whose request is still unanswered: 0 unless the time was up.
        in_flight: u64,
        /// How long it took.
        waited_ms: u64,
    },
    /// Result of `release`.
    Released {
        /// Connections that had been waiting.
        waiting: u64,
        /// How long the gate was held.
        held_ms: u64,
    },
    /// Result of `stats`.
    Stats {
        /// Process id of the entrance.
        pid: u32,
        /// Every gate, by name.
        gates: Vec<GateStats>,
    },
    /// It cannot be done; nothing was changed.
    Refused {
        /// Why.
        why: String,
    },
}

/// The figures of one gate since the entrance started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateStats {
    /// Name of the gate.
    pub gate: String,
    /// True while held.
    pub held: bool,
    /// The process whose namespace it leads to.
    pub pid: Option<u32>,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections whose request is unanswered now.
    pub in_flight: u64,
    /// Connections that wait now.
    pub waiting: u64,
    /// Connections that a program left without an answer, or that waited too long.
    pub failed: u64,
    /// Attempts that were repeated because no byte had been sent.
    pub retried: u64,
    /// The longest time that one connection waited.
    pub held_ms_max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_as_a_person_would_type_them() {
        let hold: Request = serde_json::from_str(r#"{"hold":{"gate":"shop/api"}}"#).unwrap();
        assert_eq!(hold, Request::Hold { gate: "shop/api".to_owned() });
        assert_eq!(serde_json::from_str::<Request>(r#""stats""#).unwrap(), Request::Stats);
    }
}
