//! Buffers for what is on its way between a connection and the session, shared by all connections of a thread. A connection that is idle
//! has none.

use std::cell::RefCell;

/// The capacity of a buffer, in bytes: what one read can take.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;
/// The number of buffers that a thread keeps. One read and one write are under way at a time, save where a client reads slowly.
const MAX_KEPT: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Takes an empty buffer with a capacity of at least [`BUFFER_BYTES`].
#[inline]
pub(super) fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

/// Returns a buffer, with which its thread goes on where it has the usual size.
#[inline]
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if (BUFFER_BYTES..=2 * BUFFER_BYTES).contains(&buffer.capacity()) {
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < MAX_KEPT {
                buffer.clear();
                kept.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_few_are_kept() {
        let buffers: Vec<_> = (0..10).map(|n| [take(), vec![n; 3]].concat()).collect();
        let mut sized: Vec<_> = buffers.iter().map(|_| take()).collect();
        sized.iter_mut().for_each(|buffer| buffer.extend_from_slice(b"old"));
        sized.into_iter().for_each(give_back);
        buffers.into_iter().for_each(give_back); // of another size: dropped
        KEPT.with_borrow(|kept| assert_eq!(kept.len(), MAX_KEPT));
        for _ in 0..10 {
            let buffer = take();
            assert!(buffer.is_empty() && buffer.capacity() >= BUFFER_BYTES);
        }
    }
}
