//! The service clock as a pure function of what the machine's clocks show.
//!
//! It counts two times. *Messages* age with [`ClockState::service`], for which a stop counts for a day at most. *Credentials* age with
//! [`ClockState::lived`], for which a stop counts whole, as soon as its length is known.
//!
//! # Invariants
//! - Within a boot both advance exactly as the boot clock does, whatever the wall clock does, also while the program does not run.
//! - Neither ever goes back, also where the last minute before a crash was not saved: a new boot counts for [`LEAST_STOP`] at least.
//! - Over a new boot, the wall clock counts where it was known to be right at both ends. Where it is known later, the rest is a
//!   [`LateGap`], which concerns only what was made before.

use serde::{Deserialize, Serialize};

use crate::core::lifetime::{LateGap, Point};

const SECOND: u64 = 1000;
const DAY: u64 = 86_400 * SECOND;

/// The most that a stop counts for messages. After a longer one they are kept for longer than their senders asked for.
pub const MAX_MESSAGE_GAP: u64 = DAY;
/// The age of what is saved at which it is saved again.
pub const SAVE_INTERVAL: u64 = 60 * SECOND;
/// The least that a new boot counts for: more than the age that what is saved can have.
pub const LEAST_STOP: u64 = 90 * SECOND;
/// A difference between clocks that is no jump.
const TOLERANCE: u64 = 2 * SECOND;
/// The same where nothing but this difference shows that the system has not been started again.
const BOOT_TOLERANCE: u64 = 5 * SECOND;
/// A time before this version was made, in milliseconds since 1970: 2026-11-01. A wall clock that shows less is wrong. To be raised
/// with each release.
pub const MADE_AFTER: i64 = 1_793_491_200_000;
/// The same for a time that an earlier version has saved: a year before.
const EARLIER_MADE_AFTER: i64 = MADE_AFTER - 365 * DAY.cast_signed();

/// The trust in the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// It shows a time that can't be right.
    Wrong,
    /// Nothing speaks against it.
    Plausible,
    /// A time server has set it.
    Synchronized,
}

/// What the machine's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// A number of the system's start; 0 where that is not known.
    pub boot: u64,
    /// The boot clock, in milliseconds.
    pub since_boot: u64,
    /// The wall clock, in milliseconds since 1970.
    pub wall: i64,
    /// A time server has set the wall clock.
    pub synchronized: bool,
}

/// The service clock at a moment, as it is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockState {
    /// The age of the store for messages, in milliseconds.
    pub service: u64,
    /// The age of the store for credentials, in milliseconds.
    pub lived: u64,
    /// The number of the system's start.
    boot: u64,
    /// The boot clock, in milliseconds.
    since_boot: u64,
    /// The wall clock, in milliseconds since 1970.
    wall: i64,
    /// The wall clock was known to be right then.
    right: bool,
    /// The most trust in the wall clock since the system started.
    trust: Trust,
    /// The last moment at which the wall clock was known to be right.
    known: Option<Point>,
    /// That of before the system started, from which the length of the stop is counted.
    before: Option<Point>,
    /// The part of that stop that was counted late, in milliseconds.
    late: u64,
    /// The first moment at which the wall clock was known to be right.
    pub adopted: Option<Point>,
}

/// A look at the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The service clock now.
    pub state: ClockState,
    /// Time that is known now to have passed earlier.
    pub late: Option<LateGap>,
}

impl ClockState {
    /// The clock of a new store.
    pub fn new(now: Reading) -> Self {
        // From 1 s, so that 0 can mean "never yet".
        Self {
            service: SECOND,
            lived: SECOND,
            boot: now.boot,
            since_boot: now.since_boot,
            wall: now.wall,
            right: false,
            trust: Trust::Wrong,
            known: None,
            before: None,
            late: 0,
            adopted: None,
        }
    }

    /// The clock that a version without this record has saved: its age in seconds, and the wall clock in seconds since 1970.
    pub fn earlier(service: u64, wall: u64) -> Self {
        let millis = service.saturating_mul(SECOND);
        let wall = i64::try_from(wall.saturating_mul(SECOND)).unwrap_or(i64::MAX);
        let right = wall >= EARLIER_MADE_AFTER;
        let known = right.then_some(Point { wall, lived: millis });
        // No boot clock is so young: counts as another boot.
        let new = Self::new(Reading { boot: 0, since_boot: u64::MAX, wall, synchronized: false });
        Self { service: millis, lived: millis, right, known, ..new }
    }

    /// This clock after a run of a version that has saved no more than its age in seconds, and the wall clock in seconds since 1970.
    pub fn after_earlier(self, service: u64, wall: u64) -> Self {
        let next = Self::earlier(service, wall);
        let lived = self.lived.saturating_add(next.service.saturating_sub(self.service));
        let known = next.known.map(|known| Point { lived, ..known }).or(self.known);
        Self { lived, known, adopted: self.adopted, ..next }
    }

    /// Goes on from what the last run has saved.
    pub fn continued(self, now: Reading) -> Self {
        if self.same_boot(now) {
            return self.advanced(now.since_boot);
        }
        let trust = self.trust(now, false);
        let known = trust > Trust::Wrong && self.right;
        let gap = if known { elapsed(self.wall, now.wall) } else { 0 }.max(LEAST_STOP);
        let service = self.service.saturating_add(gap.min(MAX_MESSAGE_GAP));
        let lived = self.lived.saturating_add(gap);
        // Settled by `observed`, which finds nothing to add where the gap is known.
        let new = Self { right: false, trust: Trust::Wrong, before: self.known, late: 0, ..self };
        Self { service, lived, boot: now.boot, since_boot: now.since_boot, wall: now.wall, ..new }
    }

    /// Returns whether the system has not been started again since this was saved.
    fn same_boot(self, now: Reading) -> bool {
        let offset = |wall: i64, since_boot: u64| wall.saturating_sub_unsigned(since_boot);
        let drift = offset(self.wall, self.since_boot).abs_diff(offset(now.wall, now.since_boot));
        let same = self.boot == now.boot && (now.boot != 0 || drift <= BOOT_TOLERANCE);
        same && now.since_boot >= self.since_boot
    }

    /// The clock at a later time of the boot clock.
    fn advanced(self, since_boot: u64) -> Self {
        let passed = since_boot.saturating_sub(self.since_boot);
        let (service, lived) = (self.service.saturating_add(passed), self.lived.saturating_add(passed));
        Self {
            service,
            lived,
            since_boot: self.since_boot.max(since_boot),
            wall: self.wall.saturating_add_unsigned(passed),
            ..self
        }
    }

    /// The clock at a later moment of the same boot.
    pub fn at(self, since_boot: u64, wall: i64) -> Self {
        let next = self.advanced(since_boot);
        // Where it has jumped, nothing is known until the next look.
        if !self.right || next.wall.abs_diff(wall) > TOLERANCE {
            return Self { right: false, wall, ..next };
        }
        Self { wall, known: Some(Point { wall, lived: next.lived }), ..next }
    }

    /// The clock of a cluster's log when `passed` milliseconds have passed since this was that of an entry; `wall` is the engine's clock.
    /// A node that leaves the cluster goes on from it as after a stop.
    #[cfg(feature = "cluster")]
    pub fn stepped(self, passed: u64, wall: i64) -> Self {
        let (service, lived) = (self.service.saturating_add(passed.min(MAX_MESSAGE_GAP)), self.lived.saturating_add(passed));
        let point = Point { wall, lived };
        Self {
            service,
            lived,
            boot: 0,
            since_boot: u64::MAX, // no boot clock is so young
            wall,
            right: true,
            trust: Trust::Synchronized,
            known: Some(point),
            before: None,
            late: 0,
            adopted: self.adopted.or(Some(point)),
        }
    }

    /// The same clock, which the boot clock continues from `since_boot`.
    #[cfg(feature = "cluster")]
    pub fn from(self, since_boot: u64) -> Self {
        Self { since_boot, ..self }
    }

    /// Returns the trust in the wall clock; `settled`: it has been trusted since the system started, and whoever set it since then did it
    /// on purpose.
    fn trust(self, now: Reading, settled: bool) -> Trust {
        let last = self.known.filter(|_| !settled).map_or(i64::MIN, |known| known.wall);
        match now {
            Reading { wall, .. } if wall < MADE_AFTER => Trust::Wrong,
            Reading { synchronized: true, .. } => Trust::Synchronized,
            Reading { wall, .. } if wall >= last => Trust::Plausible,
            _ => Trust::Wrong,
        }
    }

    /// Looks at all clocks.
    pub fn observed(self, now: Reading) -> Observed {
        let trust = self.trust(now, self.trust > Trust::Wrong);
        let mut state = Self { wall: now.wall, right: trust > Trust::Wrong, ..self.advanced(now.since_boot) };
        let mut late = None;
        if trust > self.trust {
            state.trust = trust;
            late = state.before.and_then(|before| {
                let counted = state.lived.saturating_sub(before.lived).saturating_add(state.late);
                let millis = elapsed(before.wall, now.wall).saturating_sub(counted);
                (millis > TOLERANCE).then_some(LateGap { at: before.lived, millis })
            });
            state.late = state.late.saturating_add(late.map_or(0, |gap| gap.millis));
        }
        if state.right {
            let point = Point { wall: now.wall, lived: state.lived };
            state.known = Some(point);
            state.adopted.get_or_insert(point);
        }
        Observed { state, late }
    }

    /// Returns whether this, which is saved, should be replaced by `now`.
    pub fn outdated(self, now: &Observed) -> bool {
        let Observed { state, late } = now;
        let expected = self.advanced(state.since_boot);
        late.is_some()
            || state.lived.saturating_sub(self.lived) >= SAVE_INTERVAL
            || expected.wall.abs_diff(state.wall) > TOLERANCE
            || (self.right, self.trust, self.adopted.is_some()) != (state.right, state.trust, state.adopted.is_some())
    }
}

#[cfg(test)]
impl ClockState {
    /// Makes the store older, without a clock that shows it.
    pub fn age(&mut self, millis: u64) {
        self.service += millis;
        self.lived += millis;
    }

    /// A clock at that age, in milliseconds, whose wall clock is not known to be right.
    pub const fn test(millis: u64) -> Self {
        Self {
            service: millis,
            lived: millis,
            boot: 1,
            since_boot: millis,
            wall: 0,
            right: false,
            trust: Trust::Wrong,
            known: None,
            before: None,
            late: 0,
            adopted: None,
        }
    }
}

/// Returns the milliseconds from `earlier` to `later`; 0 if that is earlier.
fn elapsed(earlier: i64, later: i64) -> u64 {
    u64::try_from(later.saturating_sub(earlier)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::lifetime::Present;
    use crate::core::time::Timestamp;
    use proptest::prelude::*;

    const YEAR: u64 = 365 * DAY;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;

    /// A machine with a store, and the true time.
    #[derive(Debug, Clone)]
    struct Machine {
        truth: u64,
        boot: u64,
        booted: u64,
        /// The wall clock's deviation from the true time.
        deviation: i64,
        synchronized: bool,
        /// The clock of the run; `None` while the program does not run.
        state: Option<ClockState>,
        saved: Option<ClockState>,
        late: Vec<LateGap>,
        /// The number of stops of the system.
        stops: u64,
    }

    impl Machine {
        /// A machine that has just been switched on, with a right clock.
        fn new() -> Self {
            let start = u64::try_from(MADE_AFTER).unwrap() + YEAR;
            let (deviation, synchronized, state, saved, late) = (0, false, None, None, vec![]);
            Self { truth: start, boot: 1, booted: start - 20 * SECOND, deviation, synchronized, state, saved, late, stops: 0 }
        }

        fn reading(&self) -> Reading {
            let wall = i64::try_from(self.truth).unwrap() + self.deviation;
            Reading { boot: self.boot, since_boot: self.truth - self.booted, wall, synchronized: self.synchronized }
        }

        /// Starts the program.
        fn start(&mut self) {
            let now = self.reading();
            self.state = Some(self.saved.map_or_else(|| ClockState::new(now), |saved| saved.continued(now)));
            self.look(true);
        }

        /// What the sweep of every second does.
        fn look(&mut self, thorough: bool) {
            let Some(state) = self.state else { return };
            let observed = state.observed(self.reading());
            if thorough || self.saved.is_none_or(|saved| saved.outdated(&observed)) {
                self.late.extend(observed.late);
                (self.saved, self.state) = (Some(observed.state), Some(observed.state));
            }
        }

        fn run(&mut self, millis: u64) {
            for _ in 0..millis / SECOND {
                self.truth += SECOND;
                self.look(false);
            }
        }

        /// The machine sleeps: nothing runs, the boot clock goes on.
        fn sleep(&mut self, millis: u64) {
            self.truth += millis;
        }

        fn set(&mut self, deviation: i64, synchronized: bool) {
            (self.deviation, self.synchronized) = (deviation, synchronized);
        }

        /// A stop that saves.
        fn stop(&mut self) {
            self.look(true);
            self.state = None;
        }

        /// The system is off for so long, and starts with the wall clock in 1970 or as it was.
        fn reboot(&mut self, off: u64, in_1970: bool) {
            self.state = None;
            self.truth += off;
            (self.boot, self.booted, self.synchronized, self.stops) = (self.boot + 1, self.truth, false, self.stops + 1);
            self.truth += 20 * SECOND;
            if in_1970 {
                self.deviation = -i64::try_from(self.booted).unwrap();
            }
        }

        fn lived(&self) -> u64 {
            self.state.unwrap().advanced(self.truth - self.booted).lived
        }

        fn service(&self) -> u64 {
            self.state.unwrap().advanced(self.truth - self.booted).service
        }

        /// A credential that is made now: when it was born by the store's clock, which is saved with it.
        fn born(&mut self) -> u64 {
            let now = self.reading();
            let state = self.state.unwrap().at(now.since_boot, now.wall);
            self.saved = Some(state);
            state.lived
        }

        fn age(&self, born: u64) -> u64 {
            let (lived, late) = (self.lived(), self.late.clone().into());
            Present { wall: Timestamp::EPOCH, lived, late, adopted: None }.age(born)
        }
    }

    fn started() -> Machine {
        let mut machine = Machine::new();
        machine.start();
        machine
    }

    #[test]
    fn credential_of_1970_lives_on_when_the_clock_is_set() {
        let mut machine = Machine::new();
        machine.set(-i64::try_from(machine.booted).unwrap(), false);
        machine.start();
        let born = machine.born();
        machine.run(8 * SECOND);
        machine.set(0, false);
        machine.run(2 * SECOND);
        assert_eq!(machine.age(born), 10 * SECOND);
        machine.stop();
        machine.reboot(HOUR, false);
        machine.start();
        assert_eq!(machine.age(born), HOUR + 30 * SECOND, "and the stop counts, since the clock is right at both ends");
    }

    #[test]
    fn crash_after_the_clock_was_set_costs_nothing() {
        for reboots in [false, true] {
            let mut machine = Machine::new();
            machine.set(-i64::try_from(machine.booted).unwrap(), false);
            machine.start();
            let (born, service) = (machine.born(), machine.service());
            machine.run(8 * SECOND);
            machine.set(0, false);
            // Before the next look at the clocks.
            machine.state = None;
            if reboots {
                machine.reboot(0, false);
            }
            machine.start();
            let passed = machine.service() - service;
            assert!(passed <= 8 * SECOND + if reboots { LEAST_STOP } else { 0 }, "{passed} of an hour, reboots: {reboots}");
            assert_eq!(machine.age(born), passed);
        }
    }

    #[test]
    fn stop_counts_whole_for_credentials_and_for_a_day_for_messages() {
        let mut machine = started();
        let (born, service) = (machine.born(), machine.service());
        machine.stop();
        machine.reboot(10 * DAY, false);
        machine.start();
        assert_eq!(machine.age(born), 10 * DAY + 20 * SECOND);
        assert_eq!(machine.service() - service, DAY);
    }

    #[test]
    fn stop_whose_length_is_found_out_later_counts_for_earlier_credentials_only() {
        let mut machine = started();
        let (born, service) = (machine.born(), machine.service());
        machine.stop();
        machine.reboot(10 * DAY, true);
        machine.start();
        let made_in_1970 = machine.born();
        assert_eq!(machine.age(born), LEAST_STOP, "no more is known");
        machine.run(5 * MINUTE);
        machine.set(0, true);
        machine.run(2 * SECOND);
        assert_eq!(machine.age(born), 10 * DAY + 20 * SECOND + 5 * MINUTE + 2 * SECOND);
        assert_eq!(machine.age(made_in_1970), 5 * MINUTE + 2 * SECOND);
        assert_eq!(machine.service() - service, LEAST_STOP + 5 * MINUTE + 2 * SECOND, "messages don't age at once");
        machine.stop();
        machine.start();
        assert_eq!(machine.age(born), 10 * DAY + 20 * SECOND + 5 * MINUTE + 2 * SECOND, "once");
    }

    #[test]
    fn clock_that_stood_still_over_the_stop_is_corrected_by_a_time_server() {
        // A box without a battery that starts with the time of its last stop.
        let mut machine = started();
        let born = machine.born();
        machine.run(MINUTE);
        machine.stop();
        machine.reboot(30 * DAY, false);
        machine.set(-i64::try_from(30 * DAY).unwrap(), false);
        machine.start();
        assert!(machine.age(born) < 5 * MINUTE);
        let later = machine.born();
        machine.set(0, true);
        machine.run(SECOND);
        assert_eq!(machine.age(born), 30 * DAY + MINUTE + 21 * SECOND);
        assert_eq!(machine.age(later), SECOND);
    }

    #[test]
    fn clock_that_is_mistyped_while_the_program_runs_changes_nothing() {
        for deviation in [YEAR.cast_signed() * 10, -(DAY.cast_signed()), -(YEAR.cast_signed() * 60)] {
            let mut machine = started();
            let born = machine.born();
            machine.set(deviation, false);
            machine.run(2 * MINUTE);
            machine.state = None; // a crash
            machine.sleep(10 * SECOND);
            machine.start();
            machine.set(0, false);
            machine.run(MINUTE);
            assert_eq!(machine.age(born), 3 * MINUTE + 10 * SECOND, "{deviation}");
            // The next stop counts: whoever set the clock back did so on purpose.
            machine.stop();
            machine.reboot(DAY, false);
            machine.start();
            assert_eq!(machine.age(born), DAY + 3 * MINUTE + 30 * SECOND, "{deviation}");
        }
    }

    #[test]
    fn sleep_counts() {
        let mut machine = started();
        let (born, service) = (machine.born(), machine.service());
        machine.sleep(8 * HOUR);
        assert_eq!((machine.age(born), machine.service() - service), (8 * HOUR, 8 * HOUR));
        machine.look(false);
        machine.reboot(0, true);
        machine.start();
        assert!(machine.age(born) >= 8 * HOUR, "it was saved at once");
    }

    #[test]
    fn system_without_a_boot_number_is_recognised_by_its_clocks() {
        let reading = |since_boot, wall| Reading { boot: 0, since_boot, wall, synchronized: false };
        let start = MADE_AFTER + YEAR.cast_signed();
        let state = ClockState::new(reading(HOUR, start)).observed(reading(HOUR, start)).state;
        let passed = |now| state.continued(now).lived - state.lived;
        assert_eq!(passed(reading(HOUR + 7 * SECOND, start + 8000)), 7 * SECOND, "by the boot clock");
        assert_eq!(passed(reading(MINUTE, start + 3_600_000)), HOUR, "another boot");
        assert_eq!(passed(reading(2 * HOUR, start + 86_400_000)), DAY, "another boot");
        // The same number, and less time since the boot: a machine that was set back to an earlier state.
        let back = Reading { boot: 0, ..reading(HOUR - 1, start + 1000) };
        assert_eq!(passed(back), LEAST_STOP);
    }

    #[test]
    fn earlier_version_is_continued() {
        let wall = MADE_AFTER + YEAR.cast_signed();
        let now = Reading { boot: 9, since_boot: MINUTE, wall: wall + 3_600_000, synchronized: false };
        let saved = ClockState::earlier(500, wall.cast_unsigned() / SECOND);
        let observed = saved.continued(now).observed(now);
        assert_eq!(
            (observed.state.service, observed.state.lived, observed.late),
            (500 * SECOND + HOUR, 500 * SECOND + HOUR, None)
        );
        assert!(observed.state.adopted.is_some());
        // In 1970: nothing is known of the stop.
        let saved = ClockState::earlier(500, 77);
        assert_eq!(saved.continued(now).lived, 500 * SECOND + LEAST_STOP);
        // It ran in between for 100 s: what was saved last is older than its numbers.
        let state = ClockState { lived: 9000 * SECOND, ..observed.state };
        let service = state.service / SECOND + 100;
        assert_eq!(state.after_earlier(service, 77).lived, 9100 * SECOND);
    }

    #[test]
    fn this_version_was_not_made_in_the_future() {
        assert!(MADE_AFTER < Timestamp::now().unix_millis());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Run(u64),
        Sleep(u64),
        Born,
        SetRight(bool),
        /// By so many days.
        Ahead(u64),
        Stop(u64),
        Crash(u64),
        /// Off for so long, in 1970 afterwards, without a clean stop.
        Reboot(u64, bool, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let off = || prop_oneof![0..2 * MINUTE, 0..3 * DAY, Just(YEAR)];
        prop_oneof![
            4 => (1..200 * SECOND).prop_map(Step::Run),
            1 => (0..3 * HOUR).prop_map(Step::Sleep),
            4 => Just(Step::Born),
            3 => any::<bool>().prop_map(Step::SetRight),
            1 => (1..4000u64).prop_map(Step::Ahead),
            1 => (0..HOUR).prop_map(Step::Stop),
            1 => (0..HOUR).prop_map(Step::Crash),
            4 => (off(), any::<bool>(), any::<bool>()).prop_map(|(off, in_1970, clean)| Step::Reboot(off, in_1970, clean)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn nothing_comes_back_or_ends_early_and_every_stop_counts_in_the_end(steps in proptest::collection::vec(step(), 1..40)) {
            let mut machine = started();
            // Birth by the store's clock and by the true time, stops before it, a right clock then, and the age that was seen last.
            let mut all: Vec<(u64, u64, u64, bool, u64)> = Vec::new();
            let mut ahead_ever = false;
            for step in steps {
                match step {
                    Step::Run(millis) => machine.run(millis),
                    Step::Sleep(millis) => machine.sleep(millis),
                    Step::Born => {
                        machine.look(false);
                        let (right, truth, stops) = (machine.deviation == 0, machine.truth, machine.stops);
                        all.push((machine.born(), truth, stops, right, 0));
                    }
                    Step::SetRight(synchronized) => machine.set(0, synchronized),
                    // Only once it was trusted: whoever sets a clock that shows 1970 to the wrong year is believed.
                    Step::Ahead(days) if machine.state.unwrap().trust > Trust::Wrong => {
                        ahead_ever = true;
                        machine.set((days * DAY).cast_signed(), false);
                    }
                    Step::Ahead(_) => {}
                    Step::Stop(millis) => {
                        machine.stop();
                        machine.truth += millis;
                        machine.start();
                    }
                    Step::Crash(millis) => {
                        machine.state = None;
                        machine.truth += millis;
                        machine.start();
                    }
                    Step::Reboot(off, in_1970, clean) => {
                        if clean {
                            machine.stop();
                        }
                        machine.reboot(off, in_1970);
                        machine.start();
                    }
                }
                machine.look(false);
                for (born, truth, stops, _, seen) in &mut all {
                    let (age, real) = (machine.age(*born), machine.truth - *truth);
                    prop_assert!(age >= *seen, "expired, and valid again: {age} < {seen}");
                    let slack = (machine.stops - *stops) * (LEAST_STOP + TOLERANCE);
                    prop_assert!(age <= real + slack, "too early: {age} > {real}");
                    *seen = age;
                }
            }
            machine.set(0, true);
            machine.look(false);
            for (born, truth, stops, right, _) in all.into_iter().filter(|_| !ahead_ever) {
                let (age, real) = (machine.age(born), machine.truth - truth);
                let slack = (machine.stops - stops + 1) * TOLERANCE;
                prop_assert!(!right || age + slack >= real, "too late: {age} < {real}");
            }
        }
    }
}
