//! Keeps what brokers send in the kernel as long as no lane needs it. Each answer to a fetch costs librdkafka and the
//! broker far more than the few messages that came since the one before; an answer that is not taken is not followed by
//! another fetch. The broker goes on gathering, and nothing is lost by it.

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many bytes are let through at once: there is no lack of messages then. `SO_RCVLOWAT` of socket(7).
const LARGE_BYTES: libc::c_int = 256 << 10;
/// A connection that is younger is left alone: brokers and we still greet each other.
const GREETING: Duration = Duration::from_secs(2);

/// How much somebody who reads by a client needs of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    /// Whatever comes; nothing has come lately.
    #[default]
    Anything,
    /// Nothing for a while.
    Nothing,
    /// As much as can be had.
    Everything,
}

/// The sockets of a client. Closed while somebody needs nothing and nobody needs everything.
#[derive(Debug, Default)]
pub(super) struct Valve(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sockets: Vec<(RawFd, Instant)>,
    anything: usize,
    nothing: usize,
    everything: usize,
    closed: bool,
    /// Bytes that came over sockets which are closed now.
    received_before: u64,
}

impl Valve {
    /// A socket was opened.
    pub fn add(&self, socket: RawFd) {
        self.lock().sockets.push((socket, Instant::now()));
    }

    /// A socket is about to be closed.
    pub fn remove(&self, socket: RawFd) {
        let mut state = self.lock();
        state.received_before += received(socket);
        state.sockets.retain(|&(known, _)| known != socket);
    }

    /// Bytes that brokers have sent so far, as they came over the network.
    pub fn received(&self) -> u64 {
        let state = self.lock();
        state.received_before + state.sockets.iter().map(|&(it, _)| received(it)).sum::<u64>()
    }

    /// How many read by the client.
    pub fn readers(&self) -> usize {
        let state = self.lock();
        state.anything + state.nothing + state.everything
    }

    /// Somebody begins to read by the client, with a need for [`Need::Anything`].
    pub fn join(&self) {
        self.lock().anything += 1;
    }

    /// Somebody reads no more who needed `need`.
    pub fn leave(&self, need: Need) {
        self.change(need, Need::Anything);
        self.lock().anything -= 1;
    }

    /// True when somebody would take whatever comes.
    pub fn has_idle(&self) -> bool {
        self.lock().anything > 0
    }

    /// Somebody needs `next` and no longer `before`.
    pub fn change(&self, before: Need, next: Need) {
        if before == next {
            return;
        }
        let mut state = self.lock();
        *state.count(before) -= 1;
        *state.count(next) += 1;
        let closed = state.nothing > 0 && state.everything == 0;
        if std::mem::replace(&mut state.closed, closed) != closed {
            state.apply(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, need: Need) -> &mut usize {
        match need {
            Need::Anything => &mut self.anything,
            Need::Nothing => &mut self.nothing,
            Need::Everything => &mut self.everything,
        }
    }

    /// Best effort: a system that knows nothing of it only works harder.
    fn apply(&self, now: Instant) {
        let bytes = if self.closed { LARGE_BYTES } else { 1 };
        for &(socket, opened) in &self.sockets {
            if !self.closed || now - opened > GREETING {
                // SAFETY: a socket is known only as long as it is open, and the option is an int.
                unsafe {
                    libc::setsockopt(
                        socket,
                        libc::SOL_SOCKET,
                        libc::SO_RCVLOWAT,
                        (&raw const bytes).cast(),
                        size_of_val(&bytes) as libc::socklen_t,
                    );
                }
            }
        }
    }
}

/// Bytes that came over a socket; 0 where the system does not tell.
fn received(socket: RawFd) -> u64 {
    /// Where `tcpi_bytes_received` lies in the `struct tcp_info` of Linux 4.1 and later.
    const AT: usize = 128;
    let mut info = [0_u8; AT + 8];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: a socket is known only as long as it is open; the kernel writes `length` bytes at most.
    let answer = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&info[AT..]);
    if answer == 0 && length as usize == info.len() { u64::from_ne_bytes(bytes) } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    /// Two ends of a connection over which a few bytes have come, and the valve of the second.
    fn answered() -> (TcpStream, TcpStream, Valve) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut broker = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (client, _) = listener.accept().unwrap();
        let valve = Valve::default();
        let greeted = Instant::now().checked_sub(GREETING * 2).unwrap();
        valve.lock().sockets.push((client.as_raw_fd(), greeted));
        broker.write_all(b"a few bytes").unwrap();
        assert!(can_be_read(&client, 5_000));
        (broker, client, valve)
    }

    fn can_be_read(client: &TcpStream, wait_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: client.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&raw mut poll, 1, wait_ms) == 1 }
    }

    #[test]
    fn a_small_answer_waits_in_the_kernel_while_nothing_is_needed_and_a_large_one_does_not() {
        let (mut broker, client, valve) = answered();
        valve.join();
        valve.change(Need::Anything, Need::Nothing);
        assert!(!can_be_read(&client, 0));
        broker.write_all(&vec![0; LARGE_BYTES as usize]).unwrap();
        assert!(can_be_read(&client, 5_000));
    }

    #[test]
    fn whoever_needs_everything_opens_for_all() {
        let (_broker, client, valve) = answered();
        (0..2).for_each(|_| valve.join());
        valve.change(Need::Anything, Need::Nothing);
        valve.change(Need::Anything, Need::Everything);
        assert!(can_be_read(&client, 0));
        valve.leave(Need::Everything);
        assert!(!can_be_read(&client, 0), "the other one still needs nothing");
    }

    #[test]
    fn what_has_come_wakes_the_reader_when_the_valve_opens() {
        let (_broker, client, valve) = answered();
        valve.join();
        valve.change(Need::Anything, Need::Nothing);
        let woken = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| can_be_read(&client, 30_000));
            valve.change(Need::Nothing, Need::Everything);
            waiting.join().unwrap()
        });
        assert!(woken);
    }

    #[test]
    fn bytes_are_counted_over_open_and_closed_connections() {
        let (mut broker, client, valve) = answered();
        let first = valve.received();
        assert_eq!(first, 11);
        broker.write_all(&[0; 5000]).unwrap();
        until_received(&valve, first + 5000);
        valve.remove(client.as_raw_fd());
        assert_eq!(valve.received(), first + 5000);
    }

    fn until_received(valve: &Valve, bytes: u64) {
        let begin = Instant::now();
        while valve.received() < bytes && begin.elapsed() < Duration::from_secs(10) {
            std::thread::yield_now();
        }
        assert_eq!(valve.received(), bytes);
    }

    #[test]
    fn a_connection_that_is_young_is_left_alone() {
        let (_broker, client, valve) = answered();
        valve.lock().sockets.clear();
        valve.add(client.as_raw_fd());
        valve.join();
        valve.change(Need::Anything, Need::Nothing);
        assert!(can_be_read(&client, 0));
        valve.remove(client.as_raw_fd());
        assert!(valve.lock().sockets.is_empty());
    }
}
