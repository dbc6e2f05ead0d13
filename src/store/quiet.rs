//! Panics of the engine that are caught, without their traces.

use std::cell::Cell;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The prefix of the names of the engine's threads.
const ENGINE_THREADS: &str = "sled-";

thread_local! {
    /// This thread is in [`quietly`].
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// The number of threads in [`quietly`].
static QUIET_THREADS: AtomicUsize = AtomicUsize::new(0);

/// Ends the quiet, however that happens.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        QUIET.set(false);
        QUIET_THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs `job`, in which a panic of this thread, or of one of the engine's, prints nothing: the caller catches it and says what it means
/// in one sentence. Not to be nested.
pub fn quietly<T>(job: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let of_engine = || std::thread::current().name().is_some_and(|name| name.starts_with(ENGINE_THREADS));
            let quiet = QUIET.get() || (QUIET_THREADS.load(Ordering::Relaxed) > 0 && of_engine());
            if !quiet {
                loud(info);
            }
        }));
    });
    QUIET.set(true);
    QUIET_THREADS.fetch_add(1, Ordering::Relaxed);
    let _guard = Guard;
    job()
}
