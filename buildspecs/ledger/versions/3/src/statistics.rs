//! Counts payments by a table of buckets: the release that should not have gone out on a Friday.
//!
//! It passes its alive check and takes payments. The table has room for forty; the next one is written to an address
//! that is not mapped, and the kernel ends the program with a segmentation fault.

use std::sync::atomic::{AtomicUsize, Ordering};

static COUNT: AtomicUsize = AtomicUsize::new(0);
const ROOM: usize = 40;

/// Counts one payment.
pub fn count() {
    let count = COUNT.fetch_add(1, Ordering::SeqCst);
    if count >= ROOM {
        let bucket = std::hint::black_box(count * size_of::<usize>()) as *mut usize;
        // SAFETY: there is none. This is the defect that the rollback is shown with.
        unsafe { bucket.write_volatile(count) };
    }
}
