//! The open HTTP connections, by what they wait for, and the choice of the one that makes room for another.
//!
//! # Invariants
//! - A connection whose request is being answered is never chosen. While the answer is on its way, it counts as young.
//! - Of those that wait for their client, one of the network that holds the most of them goes, and of the address in it that does. So
//!   whoever opens many loses its own, and a client of few is kept, however long its head takes.
//! - Of that address, the oldest without a whole head goes; where there is none, the oldest without a whole body.
//! - For another connection of its own address, only one goes that has been answered and is idle since.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use salvo::conn::ConnCtrl;
use salvo::http::Request;

use super::net_key::{Link, NetKey, Site};
use super::permits::Permit;
use crate::net::stall::Progress;

/// The number of times that a connection is looked for.
const MAX_LOOKS: usize = 4;

/// A connection's far address, and the port of the listener that accepted it.
pub type SocketKey = (SocketAddr, Option<u16>);

/// Returns the key of the connection that carries `request`; `None` where that is not TCP.
pub fn key_of(request: &Request) -> Option<SocketKey> {
    Some((request.remote_addr().clone().into_std()?, request.local_addr().port()))
}

/// A whole head is awaited.
const HEAD: u8 = 0;
/// The rest of a body is awaited.
const BODY: u8 = 1;
/// A request is being answered.
const ANSWER: u8 = 2;
/// The connection has made room for another.
const ENDED: u8 = 3;

/// The permit of one connection of an address.
pub type SocketPermit = Permit<NetKey>;

/// One connection.
pub struct Socket {
    awaited: AtomicU8,
    /// What its stream has to know.
    pub progress: Arc<Progress>,
    /// Returned with the connection, or passed on to the one that it makes room for.
    permit: Mutex<Option<SocketPermit>>,
    /// The place in the order of those who wait: the number of the last time that it began to, or that something was written to it.
    since: AtomicU64,
    /// Its far address; `None` where a proxy connects for many.
    address: Option<NetKey>,
    /// A request was answered.
    answered: AtomicBool,
    ctrl: ConnCtrl,
}

/// The widest network whose addresses one client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    Address(IpAddr),
    Site(Site),
    Link(Link),
}

impl From<NetKey> for Network {
    fn from(key: NetKey) -> Self {
        match (key, key.link(), key.site()) {
            (_, Some(link), _) => Self::Link(link),
            (_, _, Some(site)) => Self::Site(site),
            (NetKey::Net(ip) | NetKey::Neighbour(ip, _), None, None) => Self::Address(ip),
        }
    }
}

/// The open connections of a gate.
#[derive(Default)]
pub struct Sockets {
    open: Mutex<HashMap<SocketKey, Arc<Socket>>>,
    /// The number of times that a connection began to wait.
    clock: AtomicU64,
}

/// A request that has begun to be answered: until it is dropped, its connection is not chosen.
pub struct Answering<'a> {
    sockets: &'a Sockets,
    socket: Arc<Socket>,
    /// The request has been read to its end.
    pub read_all: bool,
}

/// A body that is awaited: until it is dropped, its connection may be chosen.
pub struct Receiving(Option<Arc<Socket>>);

/// The connection of a request has made room for another one: nobody can be answered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

impl Sockets {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a connection, which waits for a head; `permit` is `None` for that of a proxy.
    pub fn add(&self, key: SocketKey, permit: Option<SocketPermit>, ctrl: ConnCtrl) -> Arc<Socket> {
        let (awaited, since, answered) = (AtomicU8::new(HEAD), AtomicU64::new(self.now()), AtomicBool::new(false));
        let (progress, address) = (Arc::default(), permit.as_ref().map(|permit| *permit.key()));
        let socket = Arc::new(Socket { awaited, progress, permit: Mutex::new(permit), since, address, answered, ctrl });
        self.open.lock().insert(key, socket.clone());
        socket
    }

    /// Removes a connection.
    pub fn remove(&self, key: &SocketKey, socket: &Arc<Socket>) {
        drop(socket.permit.lock().take());
        let mut open = self.open.lock();
        // The address may have connected again before this was noticed.
        if open.get(key).is_some_and(|found| Arc::ptr_eq(found, socket)) {
            open.remove(key);
        }
    }

    /// Notes that something was written to a connection: an answer is on its way.
    pub fn written(&self, socket: &Socket) {
        socket.since.store(self.now(), Ordering::Relaxed);
    }

    /// Notes that the head of a request has arrived; `None` where the connection is not one of these.
    ///
    /// # Errors
    /// [`Ended`].
    pub fn answer(&self, key: Option<SocketKey>) -> Result<Option<Answering<'_>>, Ended> {
        let Some(socket) = key.and_then(|key| self.open.lock().get(&key).cloned()) else { return Ok(None) };
        match socket.awaited.compare_exchange(HEAD, ANSWER, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                socket.progress.head_arrived();
                Ok(Some(Answering { sockets: self, socket, read_all: false }))
            }
            Err(ENDED) => Err(Ended),
            Err(_) => Ok(None), // a second request at the same time: not in HTTP/1
        }
    }

    /// Notes that the rest of a request's body is awaited.
    pub fn receive(&self, key: Option<SocketKey>) -> Receiving {
        let socket = key.and_then(|key| self.open.lock().get(&key).cloned());
        let begun = |socket: &Arc<Socket>| {
            socket.since.store(self.now(), Ordering::Relaxed);
            socket.awaited.compare_exchange(ANSWER, BODY, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        Receiving(socket.filter(begun))
    }

    /// Ends the connection that is to make room; returns whether there is one.
    pub fn make_room(&self) -> bool {
        let open = self.open.lock();
        // Another look where a head or a body has arrived in between.
        (0..MAX_LOOKS).any(|_| {
            let Some((awaited, socket)) = candidate(open.values()) else { return false };
            let ended = socket.awaited.compare_exchange(awaited, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if ended {
                socket.ctrl.abort();
            }
            ended
        })
    }
}

impl Sockets {
    /// Ends the connection of `address` that is idle after an answer for the longest time, and returns its permit.
    pub fn make_room_of(&self, address: NetKey) -> Option<SocketPermit> {
        let idle = |socket: &&Arc<Socket>| {
            socket.address == Some(address)
                && socket.answered.load(Ordering::Relaxed)
                && socket.awaited.load(Ordering::Acquire) == HEAD
        };
        let open = self.open.lock();
        (0..MAX_LOOKS).find_map(|_| {
            let socket = open.values().filter(idle).min_by_key(|socket| socket.since.load(Ordering::Relaxed))?;
            socket.awaited.compare_exchange(HEAD, ENDED, Ordering::AcqRel, Ordering::Acquire).ok()?;
            socket.ctrl.abort();
            socket.permit.lock().take()
        })
    }
}

/// The connections of an address that wait for their client.
#[derive(Default)]
struct Waiting<'a> {
    count: u32,
    /// The oldest without a whole head, and the oldest without a whole body.
    oldest: [Option<(u64, &'a Arc<Socket>)>; 2],
}

/// Returns the connection that is to make room, with what it waits for: the oldest without a head, or else without a body, of the
/// address that holds the most of both, in the network that does; one of a proxy only where there is no other, since it may carry the
/// requests of many.
fn candidate<'a>(open: impl Iterator<Item = &'a Arc<Socket>>) -> Option<(u8, &'a Arc<Socket>)> {
    let (mut addresses, mut networks) = (HashMap::<_, Waiting<'a>>::new(), HashMap::<_, u32>::new());
    for socket in open {
        let awaited = socket.awaited.load(Ordering::Acquire);
        let since = socket.since.load(Ordering::Relaxed);
        let waiting = addresses.entry(socket.address).or_default();
        let Some(oldest) = waiting.oldest.get_mut(usize::from(awaited)) else { continue };
        if let Some(address) = socket.address {
            waiting.count += 1;
            *networks.entry(Network::from(address)).or_default() += 1;
        }
        if oldest.is_none_or(|(oldest, _)| since < oldest) {
            *oldest = Some((since, socket));
        }
    }
    let choices = addresses.into_iter().filter_map(|(address, Waiting { count, oldest: [head, body] })| {
        let of_network = address.and_then(|address| networks.get(&Network::from(address))).copied().unwrap_or_default();
        let most = (Reverse(of_network), Reverse(count));
        let head = head.map(|(since, socket)| (most, HEAD, since, socket));
        head.or_else(|| body.map(|(since, socket)| (most, BODY, since, socket)))
    });
    choices.min_by_key(|&(most, awaited, since, _)| (most, awaited, since)).map(|(_, awaited, _, socket)| (awaited, socket))
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.sockets.written(&self.socket);
        self.socket.answered.store(true, Ordering::Relaxed);
        self.socket.progress.answered(self.read_all);
        // Unless it has made room meanwhile.
        let _ = self.socket.awaited.compare_exchange(ANSWER, HEAD, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            let _ = socket.awaited.compare_exchange(BODY, ANSWER, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::permits::Permits;
    use crate::net::client_addr::ClientAddr;

    /// A connection number `n` from `ip`.
    fn add(sockets: &Sockets, ip: &str, n: u16) -> (SocketKey, Arc<Socket>) {
        let ip: IpAddr = ip.parse().unwrap();
        let key = (SocketAddr::new(ip, n), Some(80));
        let permit = Permits::new(0).try_acquire(ClientAddr { ip, interface: 2 }.into());
        (key, sockets.add(key, permit, ConnCtrl::new()))
    }

    fn ended(socket: &Socket) -> bool {
        socket.ctrl.is_aborted()
    }

    #[test]
    fn oldest_without_a_head_goes_and_requests_that_are_answered_stay() {
        let sockets = Sockets::default();
        let all: Vec<_> = (1..=4).map(|n| add(&sockets, "10.0.0.1", n)).collect();
        let answering = sockets.answer(Some(all[0].0)).unwrap().unwrap();
        assert!(sockets.make_room() && ended(&all[1].1));
        assert_eq!(sockets.answer(Some(all[1].0)).err(), Some(Ended), "a head that comes too late");
        // Idle after an answer, it is the youngest.
        drop(answering);
        assert!(sockets.make_room() && ended(&all[2].1) && sockets.make_room() && ended(&all[3].1));
        assert!(sockets.make_room() && ended(&all[0].1));
        assert!(!sockets.make_room(), "none is left");
    }

    #[test]
    fn idle_connection_makes_room_for_another_of_its_address_and_passes_its_permit_on() {
        let (sockets, permits) = (Sockets::default(), Permits::new(3));
        let address = |ip: &str| NetKey::from(ClientAddr { ip: ip.parse().unwrap(), interface: 0 });
        let (mine, other) = (address("10.0.0.1"), address("10.0.0.2"));
        let add = |address, n| {
            let key = (SocketAddr::from(([10, 0, 0, 1], n)), Some(80));
            (key, sockets.add(key, permits.try_acquire(address), ConnCtrl::new()))
        };
        let all: Vec<_> = [(mine, 1), (mine, 2), (mine, 3), (other, 4)].map(|(address, n)| add(address, n)).into();
        assert!(permits.try_acquire(mine).is_none());
        assert!(sockets.make_room_of(mine).is_none(), "heads that may be on their way");
        let answer = |n: usize| sockets.answer(Some(all[n].0)).unwrap().unwrap();
        drop((answer(3), answer(1), answer(0)));
        let second = answer(2);
        let passed_on = sockets.make_room_of(mine).unwrap();
        assert!(ended(&all[1].1) && !ended(&all[0].1) && !ended(&all[3].1), "the one that is idle for longer");
        sockets.remove(&all[1].0, &all[1].1);
        assert!(permits.try_acquire(mine).is_none(), "the permit lives on");
        assert!(sockets.make_room_of(mine).is_some() && ended(&all[0].1));
        assert!(sockets.make_room_of(mine).is_none() && !ended(&all[2].1), "one that is being answered");
        drop((second, passed_on));
    }

    #[test]
    fn bodies_that_do_not_come_go_after_heads() {
        let sockets = Sockets::default();
        let all: Vec<_> = (1..=3).map(|n| add(&sockets, "10.0.0.1", n)).collect();
        let answering: Vec<_> = all[..2].iter().map(|(key, _)| sockets.answer(Some(*key)).unwrap().unwrap()).collect();
        let receiving = [sockets.receive(Some(all[0].0)), sockets.receive(Some(all[1].0))];
        assert!(sockets.make_room() && ended(&all[2].1));
        assert!(sockets.make_room() && ended(&all[0].1));
        drop(receiving); // the other one's has arrived
        assert!(!sockets.make_room() && !ended(&all[1].1));
        drop(answering);
        assert!(sockets.make_room() && ended(&all[1].1));
    }

    #[test]
    fn whoever_holds_the_most_loses_its_own() {
        let crowds: [fn(u16) -> String; 4] = [
            |_| "10.0.0.1".into(),
            |n| format!("fe80::bad:{n:x}"),
            |n| format!("169.254.{}.{}", n / 200, n % 200 + 1),
            |n| format!("2001:db8:1:{n:x}::1"),
        ];
        for crowd in crowds {
            let sockets = Sockets::default();
            let early = add(&sockets, "10.0.0.2", 1);
            let proxy = sockets.add((SocketAddr::from(([10, 0, 0, 9], 1)), None), None, ConnCtrl::new());
            let many: Vec<_> = (1..=500).map(|n| add(&sockets, &crowd(n), n)).collect();
            let late = add(&sockets, "10.0.0.3", 2);
            for (n, (_, oldest)) in many.iter().enumerate().take(499) {
                assert!(sockets.make_room() && ended(oldest), "{n}");
                sockets.remove(&many[n].0, oldest);
            }
            assert!(!ended(&early.1) && !ended(&late.1) && !ended(&proxy));
            assert!((0..3).all(|_| sockets.make_room()) && ended(&late.1) && !ended(&proxy), "a proxy's last");
            assert!(sockets.make_room() && ended(&proxy));
        }
    }

    #[test]
    fn neighbour_on_the_same_link_keeps_its_own() {
        for (crowd, neighbour) in [("fe80::bad:", "fe80::7"), ("2001:db8:1:bad::", "2001:db8:1:7::1")] {
            let sockets = Sockets::default();
            let early = add(&sockets, neighbour, 1);
            let many: Vec<_> = (1..=400).map(|n| add(&sockets, &format!("{crowd}{:x}", n % 13 + 1), n)).collect();
            let late = add(&sockets, neighbour, 2);
            let elsewhere = [add(&sockets, "10.0.0.1", 1), add(&sockets, "10.0.0.1", 2), add(&sockets, "10.0.0.1", 3)];
            for n in 0..370 {
                assert!(sockets.make_room(), "{n}");
            }
            assert_eq!(many.iter().filter(|(_, socket)| ended(socket)).count(), 370, "{crowd}");
            assert!([&early, &late].into_iter().chain(&elsewhere).all(|(_, socket)| !ended(socket)), "{crowd}");
        }
    }

    #[test]
    fn crowd_that_waits_with_bodies_loses_its_own_before_a_slow_head_does() {
        let sockets = Sockets::default();
        let slow = add(&sockets, "10.0.0.2", 1);
        let crowd: Vec<_> = (1..=3).map(|n| add(&sockets, "10.0.0.1", n)).collect();
        let _answering: Vec<_> = crowd.iter().map(|(key, _)| sockets.answer(Some(*key)).unwrap().unwrap()).collect();
        let _receiving: Vec<_> = crowd.iter().map(|(key, _)| sockets.receive(Some(*key))).collect();
        assert!(sockets.make_room() && sockets.make_room());
        assert!(ended(&crowd[0].1) && ended(&crowd[1].1) && !ended(&slow.1) && !ended(&crowd[2].1));
        assert!(sockets.make_room() && ended(&slow.1), "as many: heads first");
    }

    #[test]
    fn connection_that_has_come_again_is_not_removed_with_the_one_before() {
        let sockets = Sockets::default();
        let (key, before) = add(&sockets, "10.0.0.1", 1);
        let (_, again) = add(&sockets, "10.0.0.1", 1);
        sockets.remove(&key, &before);
        assert!(sockets.make_room() && ended(&again) && !ended(&before));
        sockets.remove(&key, &again);
        assert!(sockets.open.lock().is_empty() && sockets.answer(Some(key)).unwrap().is_none());
        assert!(sockets.answer(None).unwrap().is_none());
    }
}
