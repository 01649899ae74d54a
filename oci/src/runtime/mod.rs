//! Containers on this machine, by an OCI runtime program: what to run, its bundle on disk, and the driver that execs `runc` or `crun`.
//!
//! ```text
//!   BundleSpec ─► document (Pure) ─► Bundle{config.json} ─► Runtime ─► runc | crun, whichever works here
//!                 seccomp (Pure)                            probe: says which and why
//! ```
//!
//! The same code runs build steps and released programs. The runtime program is told everything by `config.json`; it never
//! restarts a container by itself.

mod bundle;
mod call;
mod document;
mod driver;
mod gate;
mod masks;
mod probe;
mod process;
mod program;
mod seccomp;
mod spec;

pub use bundle::{Bundle, BundleError};
pub use call::RuntimeError;
pub use document::{SpecError, runtime_document};
pub use driver::{Container, ContainerState, ContainerStatus, ExecOutput, Stdio};
pub use probe::ProbeError;
pub use process::{ExitReason, OutputLine, Stream};
pub use program::{Runtime, RuntimeKind};
pub use seccomp::CallProfile;
pub use spec::{BundleSpec, IdMap, Limits, Mount, MountKind, NetworkMode, UserNamespace};

#[cfg(test)]
mod tests;
