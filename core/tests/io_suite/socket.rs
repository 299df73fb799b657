//! Connections over loopback, on a real ring.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use watershed_core::io::arena::Arena;
use watershed_core::io::executor;
use watershed_core::io::socket::{Listener, Stream};

use crate::setup;

fn run<F: Future + 'static>(test: impl FnOnce(Arena) -> F) -> F::Output
where
    F::Output: 'static,
{
    setup::HOST.run(setup::config(), || test(Arena::new(64 << 20).unwrap())).unwrap()
}

fn listen() -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

async fn pair() -> (Stream, Stream) {
    let listener = listen();
    let address = listener.local_address();
    let accepted = executor::spawn(async move { listener.accept().await.unwrap() });
    let client = Stream::connect(address).await.unwrap();
    (client, accepted.await)
}

async fn echo(stream: Stream, arena: Arena) {
    let mut lease = arena.try_alloc(4096).unwrap();
    loop {
        let (back, count) = stream.recv(lease, 0..4096).await.unwrap();
        if count == 0 {
            return;
        }
        stream.send_all(vec![back[..count].to_vec().into()]).await.unwrap();
        lease = back;
    }
}

#[test]
fn echoes_to_ordinary_clients() {
    run(|arena| async move {
        let listener = listen();
        let address = listener.local_address();
        let clients: Vec<_> = (0..8u8)
            .map(|number| {
                std::thread::spawn(move || {
                    let mut socket = std::net::TcpStream::connect(address).unwrap();
                    for round in 0..200u8 {
                        let sent = [number, round, 1, 2, 3];
                        socket.write_all(&sent).unwrap();
                        let mut back = [0; 5];
                        socket.read_exact(&mut back).unwrap();
                        assert_eq!(back, sent);
                    }
                })
            })
            .collect();
        let mut servers = Vec::new();
        for _ in 0..8 {
            let stream = listener.accept().await.unwrap();
            assert!(stream.peer().ip().is_loopback());
            servers.push(executor::spawn(echo(stream, arena.clone())));
        }
        for server in servers {
            server.await;
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
}

#[test]
fn large_bodies_are_sent_gathered_and_received_whole() {
    run(|arena| async move {
        let (client, server) = pair().await;
        let body_bytes = 8 << 20;
        let mut body = arena.try_alloc(body_bytes).unwrap();
        for (index, byte) in body.iter_mut().enumerate() {
            *byte = (index % 251) as u8;
        }
        let body = body.freeze();
        let (first, second) = (body.slice(0..5_000_001), body.slice(5_000_001..body_bytes));
        let sender = executor::spawn(async move {
            let pieces = vec![b"head".to_vec().into(), first.into(), second.lend().into(), Vec::new().into()];
            server.send_all(pieces).await.unwrap();
            server.shutdown(Shutdown::Write);
            server
        });
        let lease = client.recv_exact(arena.try_alloc(4096).unwrap(), 10..14).await.unwrap();
        assert_eq!(&lease[10..14], b"head");
        let received = client.recv_exact(arena.try_alloc(body_bytes).unwrap(), 0..body_bytes).await.unwrap();
        assert!(received[..] == body[..]);
        assert_eq!(client.recv(lease, 0..1).await.unwrap().1, 0, "the end is no bytes");
        drop(sender.await);
        drop((received, body));
        executor::yield_now().await;
        assert_eq!(arena.usage().in_use_bytes, 0);
    });
}

#[test]
fn a_peer_that_leaves_in_the_middle_is_a_fault() {
    run(|arena| async move {
        let (client, server) = pair().await;
        server.send_all(vec![b"abc".to_vec().into()]).await.unwrap();
        drop(server);
        let fault = client.recv_exact(arena.try_alloc(4096).unwrap(), 0..4).await.err().unwrap();
        assert_eq!(fault.errno(), Some(libc::ECONNRESET));
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(Stream::connect(closed).await.err().unwrap().errno(), Some(libc::ECONNREFUSED));
    });
}

#[test]
fn dropped_receives_give_their_memory_back_only_after_the_kernel() {
    run(|arena| async move {
        let (client, server) = pair().await;
        for round in 0..500u32 {
            let lease = arena.try_alloc(65536).unwrap();
            let before = arena.usage().in_use_bytes;
            let receive = client.recv(lease, 0..65536);
            assert!(executor::until(executor::now(), receive).await.is_none());
            assert_eq!(arena.usage().in_use_bytes, before, "the kernel may still write to the block");
            if round % 5 == 0 {
                server.send_all(vec![vec![round as u8; 100].into()]).await.unwrap();
            }
            while arena.usage().in_use_bytes > 8 * 65536 {
                executor::yield_now().await;
            }
        }
        let deadline = executor::now() + Duration::from_secs(10);
        while arena.usage().in_use_bytes > 0 {
            assert!(executor::now() < deadline, "cancelled receives end");
            executor::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn accepts_and_connects_can_be_given_up() {
    run(|arena| async move {
        let listener = listen();
        for _ in 0..50 {
            assert!(executor::until(executor::now(), listener.accept()).await.is_none());
        }
        executor::sleep(Duration::from_millis(5)).await;
        let client = executor::spawn(Stream::connect(listener.local_address()));
        let server = listener.accept().await.unwrap();
        let client = client.await.unwrap();
        server.send_all(vec![b"x".to_vec().into()]).await.unwrap();
        assert_eq!(client.recv(arena.try_alloc(1).unwrap(), 0..4096).await.unwrap().1, 1);
    });
}

/// An accept that is given up in the moment in which a connection arrives must not keep it open for ever.
#[test]
fn a_connection_that_nobody_takes_is_closed() {
    run(|_| async move {
        let listener = listen();
        for round in 0..50u64 {
            let address = listener.local_address();
            let client = std::thread::spawn(move || {
                let mut socket = std::net::TcpStream::connect(address).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                match socket.read(&mut [0; 1]) {
                    Ok(count) => count == 0,
                    Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
                }
            });
            // Some accepts are dropped before, some while and some after the connection arrives.
            let mut accept = Box::pin(listener.accept());
            let polled = executor::until(executor::now(), &mut accept).await;
            executor::sleep(Duration::from_micros(round * 10)).await;
            drop((accept, polled));
            // The client may be later than both: whatever comes is taken and dropped.
            while !client.is_finished() {
                drop(executor::until(executor::now() + Duration::from_millis(2), listener.accept()).await);
            }
            assert!(client.join().unwrap(), "the client sees the end, not a time-out");
        }
    });
}

#[test]
fn shutdown_ends_a_waiting_receive() {
    run(|arena| async move {
        let (client, _server) = pair().await;
        let waiting = client.clone();
        let lease = arena.try_alloc(4096).unwrap();
        let receive = executor::spawn(async move { waiting.recv(lease, 0..4096).await.map(|received| received.1) });
        executor::sleep(Duration::from_millis(2)).await;
        client.shutdown(Shutdown::Both);
        assert_eq!(receive.await.unwrap(), 0);
    });
}

#[test]
fn a_connection_travels_to_another_executor() {
    let raw = run(|_| async move {
        let (client, server) = pair().await;
        let second = server.clone();
        let server = server.into_raw().err().expect("another handle uses it");
        drop(second);
        (client.into_raw().ok().unwrap(), server.into_raw().ok().unwrap())
    });
    std::thread::spawn(move || {
        run(|arena| async move {
            let (client, server) = (Stream::from_raw(raw.0), Stream::from_raw(raw.1));
            client.send_all(vec![b"moved".to_vec().into()]).await.unwrap();
            let lease = server.recv_exact(arena.try_alloc(4096).unwrap(), 0..5).await.unwrap();
            assert_eq!(&lease[..5], b"moved");
        });
    })
    .join()
    .unwrap();
}
