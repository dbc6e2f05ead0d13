//! Sending at a fixed rate: when each message is due.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Due times that a lane may have open; beyond them the clock waits, and what is sent then is late, which its latency contains.
const OPEN_DUE_TIMES: usize = 4096;

/// Starts a clock that hands out due times to `lanes` in turn, `rate` a second in all, for `span`. They are nanoseconds since `epoch`,
/// evenly spaced, and don't shift when a lane falls behind: latency that counts from them omits nothing.
///
/// A thread of its own: the timers of the runtime have milliseconds.
pub fn start(epoch: Instant, rate: f64, span: Duration, lanes: usize) -> Vec<mpsc::Receiver<u64>> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..lanes).map(|_| mpsc::channel(OPEN_DUE_TIMES)).unzip();
    let begin = epoch.elapsed();
    let count = count(rate, span);
    thread::spawn(move || {
        for n in 0..count {
            let due = begin + due(rate, n);
            if let Some(wait) = due.checked_sub(epoch.elapsed()) {
                thread::sleep(wait);
            }
            let nanos = u64::try_from(due.as_nanos()).unwrap_or(u64::MAX);
            if senders[n as usize % senders.len()].blocking_send(nanos).is_err() {
                return; // the load has ended
            }
        }
    });
    receivers
}

/// Returns how many messages are due in `span`.
fn count(rate: f64, span: Duration) -> u64 {
    (rate * span.as_secs_f64()) as u64
}

/// Returns when message `n` is due.
fn due(rate: f64, n: u64) -> Duration {
    Duration::from_secs_f64(n as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn due_times_are_evenly_spaced_although_a_lane_reads_late() {
        let epoch = Instant::now();
        let mut lanes = start(epoch, 1000.0, Duration::from_millis(20), 2);
        thread::sleep(Duration::from_millis(40));
        let mut all = Vec::new();
        for lane in &mut lanes {
            while let Some(due) = lane.recv().await {
                all.push(due);
            }
        }
        all.sort_unstable();
        assert_eq!(all.len(), 20);
        for pair in all.windows(2) {
            assert!((999_000..=1_001_000).contains(&(pair[1] - pair[0])), "{pair:?}");
        }
    }
}
