//! One connection to one broker: requests and answers, one after the other, in versions that both sides know.
//!
//! An answer's length is held against a limit before it is read, and memory grows with what arrives.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::wire::apis::Api;
use crate::wire::generated::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::wire::header;
use crate::wire::message::Message;

use super::error::check;
use super::{ClientError, Result};

/// No answer that we ask for is larger.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// How long an answer may take beyond the time that was given to connect.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long a group may take to gather its members: none of them answers before all are there.
const REBALANCE_WAIT: Duration = Duration::from_secs(600);
const CLIENT_ID: &str = "watershed-cli";

/// A connection and what its broker speaks.
pub struct Connection {
    stream: TcpStream,
    address: String,
    answer_wait: Duration,
    next_id: i32,
    /// Lowest and highest version by API key.
    offered: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects within `timeout` and asks for the versions.
    pub fn open(address: &str, timeout: Duration) -> Result<Connection> {
        let unreachable = |cause: String| ClientError::Unreachable { address: address.to_owned(), cause };
        let resolved = address.to_socket_addrs().map_err(|cause| unreachable(cause.to_string()))?;
        let mut last = "the name has no address".to_owned();
        for at in resolved {
            match TcpStream::connect_timeout(&at, timeout) {
                Ok(stream) => return Connection::over(stream, address, timeout),
                Err(cause) => last = cause.to_string(),
            }
        }
        Err(unreachable(last))
    }

    fn over(stream: TcpStream, address: &str, timeout: Duration) -> Result<Connection> {
        let broken =
            |cause: std::io::Error| ClientError::Broken { address: address.to_owned(), cause: cause.to_string() };
        stream.set_nodelay(true).map_err(broken)?;
        let answer_wait = timeout + ANSWER_WAIT;
        stream.set_write_timeout(Some(answer_wait)).map_err(broken)?;
        let (address, offered) = (address.to_owned(), BTreeMap::new());
        let mut connection = Connection { stream, address, answer_wait, next_id: 0, offered };
        let answer: ApiVersionsResponse = connection.exchange(Api::ApiVersions, 0, &ApiVersionsRequest::default())?;
        check(answer.error_code, None, || format!("asking {} for its versions", connection.address))?;
        let range =
            |row: crate::wire::generated::api_versions::ApiVersion| (row.api_key, (row.min_version, row.max_version));
        connection.offered = answer.api_keys.into_iter().map(range).collect();
        Ok(connection)
    }

    /// Asks in the highest version that both sides know, within these.
    pub fn ask<Q: Message, A: Message>(&mut self, api: Api, versions: (i16, i16), request: &Q) -> Result<A> {
        let version = self.version(api, versions)?;
        self.exchange(api, version, request)
    }

    /// The version that [`Connection::ask`] takes.
    pub fn version(&self, api: Api, (needed, most): (i16, i16)) -> Result<i16> {
        let entry = api.entry();
        let (_, offered) = self.offered.get(&entry.key).copied().unwrap_or((0, -1));
        let version = offered.min(entry.version_max).min(most);
        match version >= needed.max(entry.version_min) {
            true => Ok(version),
            false => Err(ClientError::TooOld { address: self.address.clone(), api: entry.name, offered, needed }),
        }
    }

    fn exchange<Q: Message, A: Message>(&mut self, api: Api, version: i16, request: &Q) -> Result<A> {
        self.next_id = self.next_id.wrapping_add(1);
        let frame = header::request_frame(api, version, self.next_id, Some(CLIENT_ID), request);
        self.stream.write_all(&frame).map_err(|cause| self.broken(&cause))?;
        let wait = if matches!(api, Api::JoinGroup | Api::SyncGroup) { REBALANCE_WAIT } else { self.answer_wait };
        self.stream.set_read_timeout(Some(wait)).map_err(|cause| self.broken(&cause))?;
        let answer = self.receive().map_err(|cause| self.broken(&cause))?;
        let malformed =
            |cause: &dyn std::fmt::Display| self.broken(&format!("its answer to {api:?} makes no sense: {cause}"));
        let (id, body_at) = header::parse_response(&answer, api, version).map_err(|cause| malformed(&cause))?;
        if id != self.next_id {
            return Err(malformed(&"it belongs to another request"));
        }
        A::from_bytes(answer.get(body_at..).unwrap_or_default(), version).map_err(|cause| malformed(&cause))
    }

    fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u64::from(u32::from_be_bytes(length));
        if length > ANSWER_BYTES_MAX {
            return Err(std::io::Error::other(format!("an answer of {length} bytes: this is no Kafka broker")));
        }
        let mut answer = Vec::new();
        (&mut self.stream).take(length).read_to_end(&mut answer)?;
        match answer.len() as u64 == length {
            true => Ok(answer),
            false => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)),
        }
    }

    fn broken(&self, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken { address: self.address.clone(), cause: cause.to_string() }
    }
}
