//! Proxies between writer and server: one cuts the connection around COMMIT, one puts the server far away.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Where the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the COMMIT.
    BeforeCommit,
    /// The server commits; its answer is lost.
    AfterCommit,
}

/// Forwards to `port`; the first `times` COMMITs meet `cut`. Ends with the process.
pub struct Proxy {
    pub port: u16,
    left: Arc<AtomicU32>,
}

impl Proxy {
    pub fn start(port: u16, cut: Cut, times: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicU32::new(times));
        let cuts = left.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let (from_server, to_client) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (requests, answers) = (cuts.clone(), cuts.clone());
                std::thread::spawn(move || {
                    carry(client, server, |bytes| cut_request(bytes, cut, &requests));
                });
                std::thread::spawn(move || {
                    carry(from_server, to_client, |bytes| cut_answer(bytes, cut, &answers));
                });
            }
        });
        Self { port: own_port, left }
    }

    pub fn cuts_left(&self) -> u32 {
        self.left.load(Ordering::SeqCst)
    }
}

/// Forwards to `port`, each piece `delay` after it came. Ends with the process.
pub fn far_away(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own_port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            carry_late(client.try_clone().unwrap(), server.try_clone().unwrap(), delay);
            carry_late(server, client, delay);
        }
    });
    own_port
}

fn carry_late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, piece) in pieces {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                return;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}

fn cut_request(bytes: &[u8], cut: Cut, left: &AtomicU32) -> bool {
    cut == Cut::BeforeCommit && contains(bytes, b"COMMIT\0") && take(left)
}

fn cut_answer(bytes: &[u8], cut: Cut, left: &AtomicU32) -> bool {
    // The command tag of COMMIT.
    cut == Cut::AfterCommit && contains(bytes, b"COMMIT\0") && take(left)
}

fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn carry(mut from: TcpStream, mut to: TcpStream, cut: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if cut(&buffer[..len]) || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
