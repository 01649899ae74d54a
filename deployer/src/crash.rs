//! The crash points of the agent and of the entrance (see `nebh_face::crash`).
//!
//! `<record>:before` is decided and not written down, `<record>:after` written down and nothing done of it yet.
//! `effect-<effect>:…` and `entrance-<order>:…` stand around what is performed; the rest of the entrance's points lie on
//! the way of one connection, and of its note.

use crate::machine::Record;

/// Effects of the row and of the shelf; what the agent does by itself (wait, watch, report) has no end to die at.
/// `ahead` is what `hold` makes before it holds.
const EFFECTS: [&str; 10] =
    ["prepare", "remove", "ahead", "hold", "stop", "snapshot", "exchange", "start", "check-alive", "open"];
/// What the agent orders of the entrance while an application changes.
const ORDERS: [&str; 5] = ["open", "route", "hold", "drain", "release"];
/// On the way of a connection: taken, joined to the program, a piece of a request passed on, a piece of an answer. And the
/// note half written, and an entrance that came back and does not answer its agent yet.
const ENTRANCE: [&str; 6] = [
    "entrance-accepted",
    "entrance-joined",
    "entrance-asked",
    "entrance-answered",
    "entrance-note-half",
    "entrance-came-back",
];

/// On which side of a record, an effect or an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// Every point.
pub fn points() -> Vec<String> {
    let records = Record::ALL.iter().map(|record| record.name().to_owned());
    let effects = EFFECTS.iter().map(|name| format!("effect-{name}"));
    let orders = ORDERS.iter().map(|name| format!("entrance-{name}"));
    let sided = records.chain(effects).chain(orders);
    let sided = sided.flat_map(|name| [format!("{name}:before"), format!("{name}:after")]);
    sided.chain(ENTRANCE.iter().map(|name| (*name).to_owned())).collect()
}

/// Dies on this side of a record (`kind` is empty), an effect or an order if a test asked for it.
pub(crate) fn point(kind: &str, name: &str, side: Side) {
    let side = match side {
        Side::Before => "before",
        Side::After => "after",
    };
    nebh_face::crash::point(&format!("{kind}{name}:{side}"));
}

/// Dies at a point of the entrance that has no sides.
pub(crate) fn entrance(name: &'static str) {
    debug_assert!(ENTRANCE.contains(&name), "{name} is not listed");
    nebh_face::crash::point(name);
}
