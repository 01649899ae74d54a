//! The paths of `/proc` and `/sys` that a container does not see, or does not change.
//! Pure.

/// What tells a container about the host, or lets it reach the host's kernel.
pub(super) const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/proc/sys/kernel/random/boot_id",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What a container may look at but not change.
pub(super) const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
