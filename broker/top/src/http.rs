//! The least of HTTP: one GET over a plain connection, bounded in time and size.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// No scrape is larger.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Why a page did not come.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{address} cannot be reached: {cause}")]
    Unreachable { address: String, cause: io::Error },
    #[error("{address} sent no page: {cause}")]
    Broken { address: String, cause: io::Error },
    #[error("{address}{path} answers: {status}")]
    Status { address: String, path: String, status: String },
}

/// The body of a page at `HOST:PORT`.
pub fn get(address: &str, path: &str, timeout: Duration) -> Result<String, HttpError> {
    let mut stream =
        connect(address, timeout).map_err(|cause| HttpError::Unreachable { address: address.to_owned(), cause })?;
    let reply = exchange(&mut stream, address, path, timeout)
        .map_err(|cause| HttpError::Broken { address: address.to_owned(), cause })?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) == Some("200") {
        true => Ok(body.to_owned()),
        false => {
            let (address, path, status) = (address.to_owned(), path.to_owned(), status.to_owned());
            Err(HttpError::Status { address, path, status })
        }
    }
}

fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for at in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, timeout) {
            Ok(stream) => return Ok(stream),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

/// HTTP/1.0, so that the body comes whole and ends with the connection.
fn exchange(stream: &mut TcpStream, address: &str, path: &str, timeout: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(BODY_BYTES_MAX).read_to_string(&mut reply)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A server that answers one request with `reply`.
    fn serve(reply: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(reply.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn a_page_or_why_not() {
        let wait = Duration::from_secs(5);
        let address = serve("HTTP/1.0 200 OK\r\nA: b\r\n\r\nbody\n");
        assert_eq!(get(&address, "/metrics", wait).unwrap(), "body\n");
        let address = serve("HTTP/1.0 503 Service Unavailable\r\n\r\n");
        let error = get(&address, "/metrics", wait).unwrap_err().to_string();
        assert!(error.contains("/metrics answers: HTTP/1.0 503"), "{error}");
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(matches!(get(&closed, "/", wait), Err(HttpError::Unreachable { .. })));
    }
}
