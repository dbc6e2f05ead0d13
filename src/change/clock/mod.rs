//! The service clock: the age of a store, for ends of life.
//!
//! The wall clock may jump by years, when a box without a battery finds a time server or an operator mistypes. Nothing must expire for
//! that. So lives are counted on a clock of the store's own: it follows the boot clock while the system runs, and over a stop of the
//! system the wall clock where that is known to be right. `state` has the rules.

mod state;

use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::core::boot::BootInstant;
use crate::core::lifetime::{LateGap, Present};
use crate::core::time::Timestamp;
use crate::store::{MetaKey, Result, Trees, boot_number};
use state::Reading;
pub use state::{ClockState, Observed};

/// The most late gaps that are kept. Beyond them the shortest counts together with the next one, for what was made in between, too.
const MAX_LATE_GAPS: usize = 512;
/// The time by which the clock may be ahead of the entries of a log, in milliseconds.
#[cfg(feature = "cluster")]
const MAX_LATENESS: i64 = 2000;
/// The file by which systemd's time daemon shows that it has set the clock (systemd-timesyncd.service(8)). `adjtimex` would know of other
/// daemons, but no maintained crate makes that call safe, and a unit with `ProtectClock` may not make it.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

/// The time of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The wall clock, for people.
    pub wall: Timestamp,
    /// The service clock, in seconds, for ends of life of messages.
    pub service: u64,
    /// The service clock, for credentials and for the next run.
    pub clock: ClockState,
}

impl Moment {
    /// Returns the present, as far as lives of credentials depend on it.
    ///
    /// # Errors
    /// If the store fails.
    pub fn present(&self, trees: &Trees) -> Result<Present> {
        let (lived, adopted) = (self.clock.lived, self.clock.adopted);
        Ok(Present { wall: self.wall, lived, late: late_gaps(trees)?.into(), adopted })
    }

    /// The moment of an entry of a cluster's log.
    #[cfg(feature = "cluster")]
    pub const fn of_entry(wall: Timestamp, clock: ClockState) -> Self {
        Self { wall, service: clock.service / 1000, clock }
    }

    /// A moment of a store without a history.
    #[cfg(test)]
    pub const fn test(wall: Timestamp, service: u64) -> Self {
        Self { wall, service, clock: ClockState::test(service * 1000) }
    }
}

/// The service clock of one run.
#[derive(Debug)]
pub struct ServiceClock {
    started: BootInstant,
    /// The service clock for messages and for credentials at the start, in milliseconds. They are moved where a log sets the clock,
    /// and may wrap.
    service: AtomicU64,
    lived: AtomicU64,
    /// The number of the system's start.
    boot: u64,
    /// The most milliseconds since then that were seen: the clock never goes back.
    reached: AtomicU64,
    /// The last look at all clocks.
    observed: Mutex<ClockState>,
    /// What was saved at last.
    saved: Mutex<ClockState>,
    /// The late gaps, and the moment from which ends of earlier versions are counted, in a present whose times are not used.
    known: ArcSwap<Present>,
}

impl ServiceClock {
    /// Continues from the last run's saved time.
    ///
    /// # Errors
    /// If the store fails.
    pub fn open(trees: &Trees) -> Result<Self> {
        let started = BootInstant::now();
        Self::open_at(trees, read(boot_number(), started.millis()), started)
    }

    fn open_at(trees: &Trees, now: Reading, started: BootInstant) -> Result<Self> {
        let saved = load(trees)?;
        let start = saved.map_or_else(|| ClockState::new(now), |saved| saved.continued(now));
        let wall = Timestamp::from_unix_micros(now.wall.saturating_mul(1000));
        let known = Present { wall, lived: start.lived, late: late_gaps(trees)?.into(), adopted: start.adopted };
        Ok(Self {
            started,
            service: start.service.into(),
            lived: start.lived.into(),
            boot: now.boot,
            reached: AtomicU64::new(0),
            observed: Mutex::new(start),
            saved: Mutex::new(saved.unwrap_or(start)),
            known: ArcSwap::from_pointee(known),
        })
    }

    /// Returns the milliseconds since this run began.
    fn elapsed(&self) -> u64 {
        let elapsed = u64::try_from(BootInstant::now().since(self.started).as_millis()).unwrap_or(u64::MAX);
        elapsed.max(self.reached.fetch_max(elapsed, Ordering::Relaxed))
    }

    /// Returns the present, in seconds of the service clock, for messages.
    pub fn now(&self) -> u64 {
        self.service.load(Ordering::Relaxed).wrapping_add(self.elapsed()) / 1000
    }

    /// Returns the present, as far as lives of credentials depend on it.
    pub fn present(&self) -> Present {
        let known = self.known.load();
        let lived = self.lived.load(Ordering::Relaxed).wrapping_add(self.elapsed());
        Present { wall: Timestamp::now(), lived, late: known.late.clone(), adopted: known.adopted }
    }

    /// Returns the present by all clocks.
    pub fn moment(&self) -> Moment {
        let (wall, since_boot) = (Timestamp::now(), self.started.millis() + self.elapsed());
        let clock = self.observed.lock().at(since_boot, wall.unix_millis());
        Moment { wall, service: clock.service / 1000, clock }
    }

    /// Looks at all clocks. Returns what [`Tick`](super::Tick) is to save.
    pub fn observe(&self) -> Observed {
        self.observed.lock().observed(read(self.boot, self.started.millis() + self.elapsed()))
    }

    /// Returns whether what was observed is to be saved at once: a clock has been set, or it was not saved for a minute.
    pub fn is_outdated(&self, observed: &Observed) -> bool {
        self.saved.lock().outdated(observed)
    }

    /// Counts from now on with what was observed, which has been saved.
    ///
    /// # Errors
    /// If the store fails.
    pub fn accept(&self, trees: &Trees, observed: &Observed) -> Result<()> {
        *self.observed.lock() = observed.state;
        *self.saved.lock() = observed.state;
        let (earlier, adopted) = (self.known.load_full(), observed.state.adopted);
        if observed.late.is_some() || earlier.adopted != adopted {
            self.known.store(Present { late: late_gaps(trees)?.into(), adopted, ..(*earlier).clone() }.into());
        }
        if let Some(gap) = observed.late {
            tracing::info!(seconds = gap.millis / 1000, "the clock is right now: the last stop took longer than was known");
        }
        Ok(())
    }

    /// Sets the clock by that of an entry of a cluster's log. It is not put back for a second or so, by which entries may be late.
    #[cfg(feature = "cluster")]
    pub fn follow(&self, state: ClockState) {
        let elapsed = self.elapsed();
        for (base, reached) in [(&self.service, state.service), (&self.lived, state.lived)] {
            let (next, last) = (reached.wrapping_sub(elapsed), base.load(Ordering::Relaxed));
            let ahead = next.wrapping_sub(last).cast_signed();
            if !(-MAX_LATENESS..=0).contains(&ahead) {
                base.store(next, Ordering::Relaxed);
            }
        }
        *self.observed.lock() = state.from(self.started.millis() + elapsed);
        if self.known.load().adopted != state.adopted {
            self.known.store(Present { adopted: state.adopted, ..(*self.known.load_full()).clone() }.into());
        }
    }

    /// Moves the clock forward.
    #[cfg(test)]
    pub fn skip(&self, seconds: u64) {
        self.service.fetch_add(seconds * 1000, Ordering::Relaxed);
        self.lived.fetch_add(seconds * 1000, Ordering::Relaxed);
        self.observed.lock().age(seconds * 1000);
    }
}

/// Reads the wall clock, and adds it to what the others show.
fn read(boot: u64, since_boot: u64) -> Reading {
    let wall = Timestamp::now().unix_millis();
    let synchronized = std::path::Path::new(SYNCHRONIZED).exists(); // on a file system in memory
    Reading { boot, since_boot, wall, synchronized }
}

/// Returns the clock as it was saved; `None` in a store that has never saved it.
fn load(trees: &Trees) -> Result<Option<ClockState>> {
    let (service, wall) = (trees.meta.number(MetaKey::ServiceSeconds)?, trees.meta.number(MetaKey::ServiceWallSeconds)?);
    // A record that can't be read is no reason not to start: the numbers are there, too.
    let text = trees.meta.text(MetaKey::Clock).ok().flatten();
    Ok(match text.and_then(|text| serde_json::from_str::<ClockState>(&text).ok()) {
        // An earlier version that has served in between has saved the numbers only.
        Some(saved) if saved.service / 1000 < service => Some(saved.after_earlier(service, wall)),
        Some(saved) => Some(saved),
        None => (wall > 0).then(|| ClockState::earlier(service, wall)),
    })
}

/// Returns the clock of a store that nobody serves, at this moment.
///
/// # Errors
/// If the store fails.
#[cfg(feature = "cluster")]
pub fn clock_of(trees: &Trees) -> Result<ClockState> {
    Ok(ServiceClock::open(trees)?.moment().clock)
}

/// Saves the clock and what was found out late, so that the next run can continue from it. What was saved is never put back.
///
/// # Errors
/// If the store fails.
pub(super) fn save(trees: &Trees, moment: Moment, observed: Option<Observed>) -> Result<()> {
    let clock = observed.map_or(moment.clock, |observed| observed.state);
    if let Some(late) = observed.and_then(|observed| observed.late) {
        let mut gaps = late_gaps(trees)?;
        gaps.push(late);
        shorten(&mut gaps);
        trees.meta.set_text(MetaKey::LateGaps, &serde_json::to_string(&gaps).unwrap_or_default())?;
    }
    if load(trees)?.is_some_and(|saved| saved.lived > clock.lived || saved.service > clock.service) {
        return Ok(());
    }
    // First: the numbers are those of earlier versions, for which a crash in between would take them otherwise.
    trees.meta.set_text(MetaKey::Clock, &serde_json::to_string(&clock).unwrap_or_default())?;
    trees.meta.set(MetaKey::ServiceSeconds, clock.service / 1000)?;
    trees.meta.set(MetaKey::ServiceWallSeconds, u64::try_from(moment.wall.unix_seconds()).unwrap_or(0))
}

/// Returns the late gaps, in the order in which they were found.
fn late_gaps(trees: &Trees) -> Result<Vec<LateGap>> {
    let text = trees.meta.text(MetaKey::LateGaps)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// Keeps the number of gaps bounded.
fn shorten(gaps: &mut Vec<LateGap>) {
    while gaps.len() > MAX_LATE_GAPS {
        // The last one has no next.
        let Some((n, gap)) = gaps[..gaps.len() - 1].iter().copied().enumerate().min_by_key(|(_, gap)| gap.millis) else { return };
        gaps[n + 1].millis = gaps[n + 1].millis.saturating_add(gap.millis);
        gaps.remove(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::Watch;

    const START: i64 = state::MADE_AFTER + 86_400_000;

    fn reading(boot: u64, since_boot: u64, wall: i64) -> Reading {
        Reading { boot, since_boot, wall, synchronized: false }
    }

    fn opened(store: &Store, now: Reading) -> ServiceClock {
        let clock = ServiceClock::open_at(store.trees(), now, BootInstant::now()).unwrap();
        let observed = clock.observed.lock().observed(now);
        save(store.trees(), Moment { clock: observed.state, ..clock.moment() }, Some(observed)).unwrap();
        clock.accept(store.trees(), &observed).unwrap();
        clock
    }

    #[test]
    fn late_gap_is_kept_with_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let born = opened(&store, reading(1, 1000, START)).present().lived;
        // In 1970, and after that at the right time: an hour has passed.
        opened(&store, reading(2, 1000, 5000));
        let clock = opened(&store, reading(2, 2000, START + 3_600_000));
        for clock in [clock, opened(&store, reading(2, 3000, 5000)), opened(&store, reading(3, 0, 5000))] {
            let age = clock.present().age(born);
            assert!((3_600_000..4_000_000).contains(&age), "{age}");
        }
        assert_eq!(late_gaps(store.trees()).unwrap().len(), 1);
        assert!(store.check(Watch::NONE).unwrap().findings.is_empty());
    }

    #[test]
    fn what_was_saved_is_not_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let moment = |seconds| Moment::test(Timestamp::from_unix_micros(1_800_000_000_000_000), seconds);
        save(store.trees(), moment(100), None).unwrap();
        save(store.trees(), moment(50), None).unwrap();
        assert_eq!(load(store.trees()).unwrap().unwrap().lived, 100_000);
        // The record can't be read: the numbers are there.
        store.trees().meta.set_text(MetaKey::Clock, "{").unwrap();
        assert_eq!(load(store.trees()).unwrap().unwrap().lived, 100_000);
    }

    #[test]
    fn number_of_late_gaps_is_bounded_and_nothing_becomes_younger() {
        let mut gaps: Vec<LateGap> = (0..MAX_LATE_GAPS as u64 + 9).map(|n| LateGap { at: n * 10, millis: 1 + n % 7 }).collect();
        let age = |gaps: &[LateGap], born| {
            let late = gaps.to_vec().into();
            Present { wall: Timestamp::EPOCH, lived: 10_000, late, adopted: None }.age(born)
        };
        let before: Vec<u64> = (0..600).map(|n| age(&gaps, n * 10)).collect();
        shorten(&mut gaps);
        assert_eq!(gaps.len(), MAX_LATE_GAPS);
        for (n, before) in (0..).zip(before) {
            let now = age(&gaps, n * 10);
            assert!((before..before + 3).contains(&now), "{now} was {before}");
        }
    }
}
