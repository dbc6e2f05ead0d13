//! Room for answers on their way: their bytes count from before they are read from the store until a connection has taken them.
//!
//! An answer of [`FREE_BYTES`] is part of what its connection takes, and asks for no room. A longer one waits until there is room for
//! it, in the share of its user first and then in the whole, so that a user who reads nothing keeps nobody else waiting. Where
//! somebody waits, the answers that are read too slowly are cut off.
//!
//! # Invariants
//! - Answers take no more than the limit together, and those of one user no more than its share; one that is longer than a share
//!   counts as one.
//! - A wait ends after [`MAX_WAIT`], whatever others do.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use crate::core::ids::UserId;
use crate::telemetry::metrics::{Metrics, Refused};

/// The length of an answer that needs no room, in bytes: a connection buffers more than that anyway.
pub const FREE_BYTES: usize = 16 * 1024;
/// The longest page of a list, in bytes; an item that is longer alone is a page of its own.
pub const MAX_PAGE_BYTES: usize = 1 << 20;
/// The longest piece that a connection takes at once, in bytes.
const CHUNK_BYTES: usize = 16 * 1024;
/// The part of the room that one user may take, as a divisor.
const SHARES: usize = 4;
/// The least share of a user, in bytes: a page of a list with a long message at its end.
const MIN_SHARE_BYTES: usize = MAX_PAGE_BYTES + MAX_PAGE_BYTES / 4;
/// The bytes of a unit of room.
const UNIT_BYTES: usize = 1024;
/// The longest wait for room.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// The time between two looks for answers that are read too slowly, while somebody waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// The time that the client of an answer has before its speed counts, while others wait.
const GRACE: Duration = Duration::from_secs(5);
/// The bytes of an answer that the kernel and its connection may buffer, although its client reads nothing.
const BUFFERED_BYTES: usize = 256 * 1024;
/// The speed below which an answer is cut off while others wait, in bytes a second since its beginning, beyond those.
const MIN_BYTES_PER_SECOND: usize = 32 * 1024;

/// The caller that an answer counts for; `None`: anyone without credential.
pub type AnswersOf = Option<UserId>;

/// The permits for units of room, by user and in total.
#[derive(Debug)]
struct Budget {
    total: Arc<Semaphore>,
    /// The units that one user may take.
    share: u32,
    users: Mutex<HashMap<AnswersOf, Arc<Semaphore>>>,
}

/// Returns the units that `bytes` take.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Budget {
    fn new(bytes: usize) -> Self {
        let total = units(bytes).clamp(1, u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        let share = units((bytes / SHARES).max(MIN_SHARE_BYTES)).min(total);
        Self { total: Arc::new(Semaphore::new(total as usize)), share, users: Mutex::default() }
    }

    /// Returns the permits of a user.
    fn of(&self, user: AnswersOf) -> Arc<Semaphore> {
        let mut users = self.users.lock();
        if let Some(semaphore) = users.get(&user) {
            return semaphore.clone();
        }
        users.retain(|_, semaphore| Arc::strong_count(semaphore) > 1); // those that nobody holds or waits for
        users.entry(user).or_insert_with(|| Arc::new(Semaphore::new(self.share as usize))).clone()
    }
}

/// The room for answers on their way.
pub struct Answers {
    budget: ArcSwap<Budget>,
    /// The answers that are being sent, by number.
    sending: Mutex<HashMap<u64, (AnswersOf, Arc<Sending>)>>,
    next: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Answers {
    /// Room for `bytes`; at least one answer at a time, however long, has some.
    pub fn new(bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let budget = ArcSwap::from_pointee(Budget::new(bytes));
        Arc::new(Self { budget, sending: Mutex::default(), next: AtomicU64::new(0), metrics })
    }

    /// Applies another limit. Answers on their way keep the room that they have of the former one.
    pub fn set_limit(&self, bytes: usize) {
        self.budget.store(Arc::new(Budget::new(bytes)));
    }

    /// Waits for room for an answer of `bytes` to `user`; `None` when there is none for [`MAX_WAIT`].
    pub async fn reserve(self: &Arc<Self>, user: AnswersOf, bytes: usize) -> Option<Room> {
        let (budget, deadline) = (self.budget.load_full(), Instant::now() + MAX_WAIT);
        let units = units(bytes).clamp(1, budget.share);
        // First the share: who waits for the whole takes no more than a share of it.
        let share = self.acquire(budget.of(user), units, deadline, Some(user)).await?;
        let total = self.acquire(budget.total.clone(), units, deadline, None).await?;
        Some(Room { share, total, user, answers: self.clone() })
    }

    /// Waits for units of `semaphore`, at the cost of answers that are read too slowly: those of one user, or of any.
    async fn acquire(
        &self,
        semaphore: Arc<Semaphore>,
        units: u32,
        deadline: Instant,
        of: Option<AnswersOf>,
    ) -> Option<OwnedSemaphorePermit> {
        let mut acquiring = pin!(semaphore.acquire_many_owned(units));
        let mut look = Instant::now();
        loop {
            tokio::select! {
                biased;
                acquired = &mut acquiring => return acquired.ok(),
                () = sleep_until(look.min(deadline)) => {}
            }
            if Instant::now() >= deadline {
                return None;
            }
            self.cut_off_slow(of);
            look = Instant::now() + LOOK_INTERVAL;
        }
    }

    /// Cuts off the answers that are read too slowly: those of one user, or of any.
    fn cut_off_slow(&self, of: Option<AnswersOf>) {
        let now = Instant::now();
        let concerned: Vec<_> = {
            let sending = self.sending.lock();
            let concerned = sending.values().filter(|(user, _)| of.is_none_or(|of| of == *user));
            concerned.map(|(user, answer)| (*user, answer.clone())).collect()
        };
        for (user, answer) in concerned {
            if answer.cut_off_if_slow(now) {
                self.metrics.refused.inc(Refused::AnswerTooSlow);
                tracing::debug!(
                    user = user.map(|user| user.0),
                    "answer cut off: it is read too slowly, and others wait for room"
                );
            }
        }
    }
}

/// Room for one answer; given back when dropped.
pub struct Room {
    share: OwnedSemaphorePermit,
    total: OwnedSemaphorePermit,
    user: AnswersOf,
    answers: Arc<Answers>,
}

impl Room {
    /// Gives back what is not needed for `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        for permit in [&mut self.share, &mut self.total] {
            let unneeded = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(unneeded));
        }
    }

    /// Sends an answer, whose segments give back their room as they are taken.
    pub fn send(mut self, segments: VecDeque<Bytes>) -> OnItsWay {
        let left = segments.iter().map(Bytes::len).sum();
        self.shrink(left);
        let (user, answers) = (self.user, self.answers.clone());
        let content = Content { segments, left, room: Some(self) };
        let answer = Arc::new(Sending { began: Instant::now(), length: left, content: Mutex::new(Some(content)) });
        let number = answers.next.fetch_add(1, Ordering::Relaxed);
        answers.sending.lock().insert(number, (user, answer.clone()));
        OnItsWay { number, answers, answer }
    }
}

/// An answer that is being sent.
struct Sending {
    began: Instant,
    /// Its bytes.
    length: usize,
    /// What has not been taken; `None` once it is cut off.
    content: Mutex<Option<Content>>,
}

struct Content {
    segments: VecDeque<Bytes>,
    /// Their bytes.
    left: usize,
    /// `None` where the whole answer needs none.
    room: Option<Room>,
}

impl Sending {
    /// Frees what has not been taken, if its client has taken too little so far. Returns whether it did.
    fn cut_off_if_slow(&self, now: Instant) -> bool {
        let mut content = self.content.lock();
        let Some(Content { left, .. }) = &*content else { return false };
        let read = (self.length - left).saturating_sub(BUFFERED_BYTES);
        let due = self.began + GRACE + Duration::from_millis((read * 1000 / MIN_BYTES_PER_SECOND) as u64);
        let freed = if *left > 0 && now >= due { content.take() } else { None };
        drop(content);
        freed.is_some() // it is freed here, without the lock
    }
}

/// Others waited for room, and the answer was read too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer was read too slowly while others waited")]
pub struct CutOff;

/// An answer on its way to its client, as a sequence of chunks. What is left of it is freed when it is dropped.
pub struct OnItsWay {
    number: u64,
    answers: Arc<Answers>,
    answer: Arc<Sending>,
}

impl OnItsWay {
    /// Takes the next chunk; `None` at the end.
    pub fn next_chunk(&mut self) -> Option<Result<Bytes, CutOff>> {
        let mut content = self.answer.content.lock();
        let Some(Content { segments, left, room }) = &mut *content else { return Some(Err(CutOff)) };
        let first = segments.front_mut()?;
        let chunk = first.split_to(first.len().min(CHUNK_BYTES));
        *left -= chunk.len();
        if first.is_empty() {
            // A segment is one piece of memory, which is freed as a whole.
            segments.pop_front();
            let held = segments.iter().map(Bytes::len).sum();
            match room {
                Some(room) if held > 0 => room.shrink(held),
                room => drop(room.take()),
            }
        }
        Some(Ok(chunk))
    }

    /// Returns the bytes that have not been taken.
    pub fn left(&self) -> usize {
        // One that is cut off must not look complete.
        self.answer.content.lock().as_ref().map_or(1, |content| content.left)
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.answers.sending.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn answers(bytes: usize) -> Arc<Answers> {
        Answers::new(bytes, Metrics::new(Arc::default()))
    }

    fn user(id: u64) -> AnswersOf {
        Some(UserId(id))
    }

    /// Returns the units that nobody holds.
    fn free(answers: &Answers) -> usize {
        answers.budget.load().total.available_permits()
    }

    /// An answer of `count` segments of 64 KiB.
    fn segments(count: usize) -> VecDeque<Bytes> {
        std::iter::repeat_with(|| Bytes::from(vec![b'x'; 64 * 1024])).take(count).collect()
    }

    /// Takes chunks of an answer until at least `bytes` have been taken, or to its end.
    fn take(sending: &mut OnItsWay, bytes: usize) -> Result<usize, CutOff> {
        let mut taken = 0;
        while taken < bytes {
            match sending.next_chunk() {
                Some(chunk) => taken += chunk?.len(),
                None => break,
            }
        }
        Ok(taken)
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_leaves_room_for_the_others() {
        let answers = answers(8 * MIB);
        let began = Instant::now();
        let _first = answers.reserve(user(1), MIB).await.unwrap();
        let _second = answers.reserve(user(1), MIB).await.unwrap();
        assert!(answers.reserve(user(1), MIB).await.is_none());
        assert_eq!(began.elapsed(), MAX_WAIT);
        let others = [answers.reserve(user(2), MIB).await, answers.reserve(user(3), MIB).await, answers.reserve(None, MIB).await];
        assert!(others.iter().all(Option::is_some));
        assert_eq!(began.elapsed(), MAX_WAIT, "nobody else has waited");
    }

    #[tokio::test(start_paused = true)]
    async fn all_users_together_take_no_more_than_the_limit() {
        let answers = answers(8 * MIB);
        let mut rooms = Vec::new();
        for id in 0..8 {
            rooms.push(answers.reserve(user(id), MIB).await.unwrap());
        }
        assert_eq!(free(&answers), 0);
        let (waiting, answers_of_others) = (answers.clone(), answers.clone());
        let waiting = tokio::spawn(async move { waiting.reserve(user(9), MIB).await.is_some() });
        assert!(answers_of_others.reserve(user(10), 1).await.is_none(), "in the order of their coming");
        assert!(!waiting.await.unwrap());
        drop(rooms.pop());
        assert!(answers.reserve(user(9), MIB).await.is_some());
        drop(rooms);
        assert_eq!(free(&answers), 8 * MIB / UNIT_BYTES);
        let _one = answers.reserve(user(11), 1).await.unwrap();
        assert_eq!(answers.budget.load().users.lock().len(), 1, "users without answers are forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_given_back_as_the_answer_is_taken_and_when_it_is_dropped() {
        let answers = answers(8 * MIB);
        let all = free(&answers);
        let room = answers.reserve(None, MIB).await.unwrap();
        assert_eq!(free(&answers), all - 1024);
        let mut sending = room.send(segments(4));
        assert_eq!((free(&answers), sending.left()), (all - 256, 256 * 1024));
        assert_eq!(take(&mut sending, 60_000), Ok(64 * 1024));
        assert_eq!((free(&answers), sending.left()), (all - 192, 192 * 1024));
        assert_eq!(sending.next_chunk().unwrap().unwrap().len(), CHUNK_BYTES);
        assert_eq!(free(&answers), all - 192, "the rest of a segment keeps all of it in memory");
        assert_eq!(take(&mut sending, usize::MAX), Ok(256 * 1024 - 64 * 1024 - CHUNK_BYTES));
        assert_eq!((free(&answers), sending.left()), (all, 0));
        assert!(sending.next_chunk().is_none());
        let unread = answers.reserve(None, MIB).await.unwrap().send(segments(4));
        assert_eq!(answers.sending.lock().len(), 2);
        drop((unread, sending));
        assert_eq!((free(&answers), answers.sending.lock().len()), (all, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_is_longer_than_a_share_has_room_alone() {
        let answers = answers(1);
        let first = answers.reserve(user(1), 100 * MIB).await.unwrap();
        assert!(answers.reserve(user(2), 1).await.is_none());
        let mut sending = first.send(segments(40));
        assert!(answers.reserve(user(2), 1).await.is_some(), "it was not read at all");
        assert_eq!(sending.next_chunk(), Some(Err(CutOff)));
        answers.set_limit(8 * MIB);
        let _both = (answers.reserve(user(1), 9 * MIB).await.unwrap(), answers.reserve(user(2), 9 * MIB).await.unwrap());
        assert_eq!(free(&answers), 4 * MIB / UNIT_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_are_read_too_slowly_make_room_where_others_wait() {
        let answers = answers(2 * MIB);
        let send = async |id, count: usize| answers.reserve(user(id), count * 64 * 1024).await.unwrap().send(segments(count));
        // Unread for long, but nobody waits.
        let mut unread = send(1, 16).await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert_eq!(take(&mut unread, 64 * 1024), Ok(64 * 1024));
        drop(unread);

        let (mut unread, mut trickling, mut read) = (send(1, 4).await, send(2, 12).await, send(3, 12).await);
        let began = Instant::now();
        let reading = async {
            for _ in 0..9 {
                assert_eq!(take(&mut read, 64 * 1024), Ok(64 * 1024));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            take(&mut read, usize::MAX)
        };
        let slowly = async {
            while trickling.next_chunk().unwrap().is_ok() {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            began.elapsed()
        };
        let waiting = async {
            let room = answers.reserve(user(4), 2 * MIB).await;
            (room.is_some(), began.elapsed())
        };
        let (read, cut_off, (found, waited)) = tokio::join!(reading, slowly, waiting);
        assert_eq!(read, Ok(3 * 64 * 1024), "fast enough: 64 KiB a second");
        assert!(found && waited >= GRACE && waited < MAX_WAIT, "{waited:?}");
        assert!(cut_off < MAX_WAIT, "16 KiB in two seconds: {cut_off:?}");
        assert_eq!(unread.next_chunk(), Some(Err(CutOff)));
        assert!(unread.left() > 0, "it does not look complete");
        // What was read at first does not count for ever.
        let mut stopped = send(1, 16).await;
        assert_eq!(take(&mut stopped, 512 * 1024), Ok(512 * 1024));
        tokio::time::sleep(GRACE + Duration::from_secs(7)).await;
        let _some = answers.reserve(user(2), MIB).await.unwrap();
        assert_eq!(take(&mut stopped, CHUNK_BYTES), Ok(CHUNK_BYTES), "nobody had to wait");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(answers.reserve(user(3), MIB).await.is_some());
        assert_eq!(stopped.next_chunk(), Some(Err(CutOff)));
        assert!(answers.metrics.refused.of(Refused::AnswerTooSlow).get() >= 1);
    }

    #[tokio::test(start_paused = true)]
    async fn share_that_is_used_up_costs_other_users_no_answer() {
        let answers = answers(8 * MIB);
        let mut slow = answers.reserve(user(1), MIB).await.unwrap().send(segments(16));
        let _own = [answers.reserve(user(2), MIB).await.unwrap(), answers.reserve(user(2), MIB).await.unwrap()];
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(answers.reserve(user(2), MIB).await.is_none());
        assert_eq!(take(&mut slow, usize::MAX), Ok(MIB));
    }
}
