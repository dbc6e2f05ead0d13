//! Deadlines that don't run while the process doesn't: it is stopped by a signal, its virtual machine is paused, the machine is asleep or
//! so busy that nothing gets its turn.
//!
//! Timers go on meanwhile. When the process wakes, all of them are due, and whoever has sent in time, or is waited for, would be given
//! up although what it sent lies unread. So deadlines for others are counted on the time that the process was awake, and after each
//! sleep they have [`GRACE`] more: what has arrived is read first.
//!
//! # Invariants
//! - Sleep is noticed by whoever looks at a deadline first, not only by [`watch`]: the last tick is too long ago then.
//! - Without [`watch`], deadlines are those of tokio.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// The time between two ticks.
const TICK: Duration = Duration::from_millis(500);
/// The age of the last tick from which on the process has slept.
const SLEEP: Duration = Duration::from_secs(2);
/// What all deadlines are extended by after a sleep, beyond its length: the time to read what has arrived, and for clients that slept,
/// too, or wait for an answer, to notice that the server is back.
const GRACE: Duration = Duration::from_secs(5);
/// The least time between two lines in the log about sleep: a machine that is too busy has no time for more.
const LINE_INTERVAL: Duration = Duration::from_secs(60);
/// "Never" as a timer's duration: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The beginning of time for the numbers below.
static START: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
/// The ticks of this process. Locked for a few instructions.
static TICKS: Mutex<Ticks> = Mutex::new(Ticks { last: 0, watches: 0, slept: 0, woke: 0, told: None });

struct Ticks {
    /// The last one, in milliseconds after the start; 0 while nobody ticks.
    last: u64,
    /// The number of those who tick: one a server.
    watches: u32,
    /// The time slept until then, with the grace, in milliseconds.
    slept: u64,
    /// The end of the last sleep, in milliseconds after the start; 0 before the first.
    woke: u64,
    /// The time of the last line in the log about it.
    told: Option<u64>,
}

fn millis_since_start() -> u64 {
    millis(START.elapsed()).saturating_add(1) // never 0
}

/// The length of the sleep that ends at `now`, with the grace, in milliseconds; 0 where there was none.
fn sleep_before(now: u64, ticked: u64) -> u64 {
    let gap = Duration::from_millis(now.saturating_sub(ticked));
    let slept = if ticked > 0 && gap > SLEEP { gap + GRACE } else { Duration::ZERO };
    millis(slept)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The time slept until the last tick, in milliseconds: [`Ticks::slept`] without the lock.
static SLEPT: AtomicU64 = AtomicU64::new(0);

/// Returns the time by which deadlines have been extended until the last tick. Costs neither a look at the clock nor a lock: a deadline
/// that begins with it may be extended by a sleep that is over, which harms nobody.
fn slept_until_tick() -> Duration {
    let slept = Duration::from_millis(SLEPT.load(Ordering::Relaxed));
    #[cfg(test)]
    let slept = slept + tests::PRETENDED.get();
    slept
}

/// Returns the time by which deadlines have been extended since the process started.
pub fn slept() -> Duration {
    let ticks = TICKS.lock();
    let slept = Duration::from_millis(ticks.slept.saturating_add(sleep_before(millis_since_start(), ticks.last)));
    #[cfg(test)]
    let slept = slept + tests::PRETENDED.get();
    slept
}

/// Returns whether the process has slept until a few seconds ago: what is read now may have come at any time since.
pub fn woke_lately() -> bool {
    #[cfg(test)]
    if !tests::PRETENDED.get().is_zero() {
        return true;
    }
    let ticks = TICKS.lock();
    let now = millis_since_start();
    sleep_before(now, ticks.last) > 0 || (ticks.woke > 0 && now.saturating_sub(ticks.woke) < millis(GRACE))
}

/// Goes on as if this process had slept until now, for the thread of a test.
#[cfg(test)]
pub fn pretend_sleep(duration: Duration) {
    tests::PRETENDED.set(tests::PRETENDED.get() + duration);
}

fn tick() {
    let mut ticks = TICKS.lock(); // of several servers in a process, one counts each sleep
    let now = millis_since_start();
    let (before, slept) = (ticks.last, sleep_before(now, ticks.last));
    (ticks.last, ticks.slept) = (now, ticks.slept.saturating_add(slept));
    SLEPT.store(ticks.slept, Ordering::Relaxed);
    if slept > 0 {
        ticks.woke = now;
        if ticks.told.is_some_and(|told| now - told < millis(LINE_INTERVAL)) {
            return;
        }
        ticks.told = Some(now);
        drop(ticks);
        let seconds = (now - before) / 1000;
        tracing::warn!(seconds, "this process did not run for a while: all deadlines are extended by as much");
    }
}

/// Ends the watch when it is dropped.
struct Watch;

impl Watch {
    fn begin() -> Self {
        TICKS.lock().watches += 1;
        Self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut ticks = TICKS.lock();
        ticks.watches -= 1;
        if ticks.watches == 0 {
            ticks.last = 0;
        }
    }
}

/// Watches for sleep for as long as the future is polled.
pub async fn watch() {
    let _watch = Watch::begin();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tick();
    }
}

/// A moment, from which the time is counted that the process has been awake.
#[derive(Debug, Clone, Copy)]
pub struct AwakeInstant {
    at: Instant,
    slept: Duration,
}

impl AwakeInstant {
    /// Returns the present.
    pub fn now() -> Self {
        Self { at: Instant::now(), slept: slept() }
    }

    /// Returns the time since then that the process has been awake.
    pub fn elapsed(self) -> Duration {
        self.at.elapsed().saturating_sub(slept().saturating_sub(self.slept))
    }
}

/// A deadline for others.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    due: Instant,
    slept: Duration,
}

impl Deadline {
    /// The deadline after `duration` from now on.
    pub fn after(duration: Duration) -> Self {
        let now = Instant::now();
        Self { due: now.checked_add(duration).unwrap_or(now + NEVER), slept: slept_until_tick() }
    }

    /// The moment at which it is over if the process does not sleep from now on.
    fn due(self) -> Instant {
        self.due + slept().saturating_sub(self.slept)
    }

    /// Returns whether it is over.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.due()
    }

    /// Returns the time that is left.
    pub fn left(self) -> Duration {
        self.due().saturating_duration_since(Instant::now())
    }

    /// Returns the earlier one of this and of the deadline after `duration` from now on.
    pub fn or_after(self, duration: Duration) -> Self {
        if self.left() <= duration { self } else { Self::after(duration) }
    }
}

/// Waits for a deadline.
#[derive(Debug)]
pub struct Sleep {
    deadline: Deadline,
    timer: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep {
    /// Waits until `deadline` is over.
    pub fn until(deadline: Deadline) -> Self {
        Self { deadline, timer: Box::pin(sleep_until(deadline.due)) }
    }

    /// Waits for another deadline instead.
    pub fn reset(&mut self, deadline: Deadline) {
        self.deadline = deadline;
        self.timer.as_mut().reset(deadline.due);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.deadline.due();
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

/// The error of a deadline that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deadline is over")]
pub struct Elapsed;

/// Waits for `future` for `duration` at most, as tokio's function of that name does.
///
/// # Errors
/// [`Elapsed`].
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    timeout_at(Deadline::after(duration), future).await
}

/// Waits for `future` until `deadline`.
///
/// # Errors
/// [`Elapsed`].
pub async fn timeout_at<F: Future>(deadline: Deadline, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut sleep) = (pin!(future), pin!(Sleep::until(deadline)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::{pending, ready};

    thread_local! {
        /// A sleep that a test pretends, for its own thread.
        pub(super) static PRETENDED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Goes on as if the process had slept for the last `duration`.
    async fn slept_for(duration: Duration) {
        pretend_sleep(duration);
        tokio::time::advance(duration).await;
    }

    #[test]
    fn sleep_is_a_gap_between_ticks_and_has_a_grace() {
        let grace = millis(GRACE);
        assert_eq!(sleep_before(90_000, 0), 0, "nobody ticks");
        assert_eq!(sleep_before(10_000, 10_000), 0);
        assert_eq!(sleep_before(12_000, 10_000), 0, "a tick that is late");
        assert_eq!(sleep_before(90_000, 10_000), 80_000 + grace);
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_are_those_of_tokio_while_nobody_sleeps() {
        let start = Instant::now();
        assert_eq!(timeout(Duration::from_secs(3), pending::<()>()).await, Err(Elapsed));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(timeout(Duration::ZERO, ready(7)).await, Ok(7), "what is there counts");
        assert_eq!(timeout(Duration::MAX, ready(7)).await, Ok(7));
        let deadline = Deadline::after(Duration::from_secs(10));
        assert_eq!(deadline.or_after(Duration::from_secs(4)).left(), Duration::from_secs(4));
        assert_eq!(deadline.or_after(Duration::from_secs(40)).left(), Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(deadline.is_over() && deadline.left().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_don_t_run_during_a_sleep() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (deadline, since) = (Deadline::after(10 * second), AwakeInstant::now());
        let waiting = tokio::task::spawn(async move {
            let outcome = timeout(10 * second, pending::<()>()).await;
            (outcome, start.elapsed())
        });
        tokio::task::yield_now().await; // they begin to wait
        tokio::time::advance(4 * second).await;
        slept_for(80 * second).await;
        assert!(!deadline.is_over());
        assert_eq!((deadline.left(), since.elapsed()), (6 * second, 4 * second));
        assert_eq!(deadline.or_after(7 * second).left(), 6 * second);
        assert_eq!(waiting.await.unwrap(), (Err(Elapsed), 90 * second));
        assert!(deadline.is_over());
        assert_eq!(Deadline::after(second).left(), second, "what begins after the sleep is not extended");
    }
}
