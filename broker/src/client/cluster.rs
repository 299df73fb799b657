//! The cluster: its brokers, who leads and who coordinates, and one connection to each broker that was needed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::wire::apis::Api;
use crate::wire::generated::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::generated::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use crate::wire::message::Message;

use super::error::check;
use super::{ClientError, Connection, Result};

/// Between two tries; doubled from one to the next.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Versions that name topics by name alone.
const METADATA: (i16, i16) = (4, 12);
const FIND_COORDINATOR: (i16, i16) = (4, 6);

/// A Kafka cluster, as one client sees it.
pub struct Cluster {
    bootstrap: Vec<String>,
    timeout: Duration,
    brokers: BTreeMap<i32, String>,
    controller: i32,
    connections: BTreeMap<i32, Connection>,
    coordinators: BTreeMap<String, i32>,
}

impl Cluster {
    /// Connects by the first of these addresses (after commas) that answers. `timeout` is for each request with its retries.
    pub fn connect(bootstrap: &str, timeout: Duration) -> Result<Cluster> {
        let bootstrap = bootstrap.split(',').map(|at| at.trim().to_owned()).filter(|at| !at.is_empty()).collect();
        let mut cluster = Cluster {
            bootstrap,
            timeout,
            brokers: BTreeMap::new(),
            controller: -1,
            connections: BTreeMap::new(),
            coordinators: BTreeMap::new(),
        };
        cluster.metadata(Some(&[]))?;
        Ok(cluster)
    }

    /// The brokers and their addresses.
    pub fn brokers(&self) -> &BTreeMap<i32, String> {
        &self.brokers
    }

    /// What the cluster says of these topics, of all if `None`. Creates none.
    pub fn metadata(&mut self, topics: Option<&[String]>) -> Result<MetadataResponse> {
        let topic =
            |name: &String| MetadataRequestTopic { name: Some(name.clone()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let metadata: MetadataResponse =
            self.retrying(|cluster| cluster.any()?.ask(Api::Metadata, METADATA, &request))?;
        self.controller = metadata.controller_id;
        let address = |host: &str, port: i32| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        self.brokers =
            metadata.brokers.iter().map(|broker| (broker.node_id, address(&broker.host, broker.port))).collect();
        Ok(metadata)
    }

    /// Asks any broker.
    pub(super) fn ask_any<Q: Message, A: Message>(&mut self, api: Api, versions: (i16, i16), request: &Q) -> Result<A> {
        self.retrying(|cluster| cluster.any()?.ask(api, versions, request))
    }

    /// Asks the controller, or any broker while none is known.
    pub(super) fn ask_controller<Q: Message, A: Message>(
        &mut self,
        api: Api,
        versions: (i16, i16),
        request: &Q,
    ) -> Result<A> {
        match self.brokers.contains_key(&self.controller) {
            true => self.ask(self.controller, api, versions, request),
            false => self.ask_any(api, versions, request),
        }
    }

    /// Asks one broker.
    pub(super) fn ask<Q: Message, A: Message>(
        &mut self,
        broker: i32,
        api: Api,
        versions: (i16, i16),
        request: &Q,
    ) -> Result<A> {
        self.retrying(|cluster| cluster.broker(broker)?.ask(api, versions, request))
    }

    /// Asks the coordinator of a group, and judges the answer by `refusal`: a coordinator that has moved is looked for again.
    pub(super) fn ask_coordinator<Q: Message, A: Message>(
        &mut self,
        group: &str,
        api: Api,
        versions: (i16, i16),
        request: &Q,
        refusal: impl Fn(&A) -> Result<()>,
    ) -> Result<A> {
        self.retrying(|cluster| {
            let broker = cluster.coordinator(group)?;
            let answer: Result<A> = cluster.broker(broker)?.ask(api, versions, request);
            let judged = answer.and_then(|answer| refusal(&answer).map(|()| answer));
            if judged.is_err() {
                cluster.coordinators.remove(group);
            }
            judged
        })
    }

    /// Who coordinates a group.
    pub(super) fn coordinator(&mut self, group: &str) -> Result<i32> {
        if let Some(known) = self.coordinators.get(group) {
            return Ok(*known);
        }
        let keys = vec![group.to_owned()];
        let request = FindCoordinatorRequest { coordinator_keys: keys, ..FindCoordinatorRequest::default() };
        let answer: FindCoordinatorResponse = self.any()?.ask(Api::FindCoordinator, FIND_COORDINATOR, &request)?;
        let missing = || ClientError::Missing(format!("nobody coordinates group {group}"));
        let found = answer.coordinators.into_iter().next().ok_or_else(missing)?;
        check(found.error_code, found.error_message.as_deref(), || {
            format!("finding the coordinator of group {group}")
        })?;
        self.brokers.entry(found.node_id).or_insert_with(|| format!("{}:{}", found.host, found.port));
        self.coordinators.insert(group.to_owned(), found.node_id);
        Ok(found.node_id)
    }

    /// Does it until it works, fails for good, or the time is over. Connections that broke are made anew.
    pub(super) fn retrying<T>(&mut self, mut attempt: impl FnMut(&mut Cluster) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + self.timeout;
        let mut wait = BACKOFF;
        loop {
            let error = match attempt(self) {
                Ok(done) => return Ok(done),
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => error,
            };
            if matches!(error, ClientError::Broken { .. }) {
                self.connections.clear();
            }
            if Instant::now() + wait > deadline {
                return Err(ClientError::GaveUp { seconds: self.timeout.as_secs(), last: Box::new(error) });
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// A connection to any broker: one that is open, else by the addresses that were given.
    fn any(&mut self) -> Result<&mut Connection> {
        let key = match self.connections.keys().next() {
            Some(open) => *open,
            None => {
                let connection = self.bootstrap()?;
                self.connections.insert(-1, connection);
                -1
            }
        };
        Ok(self.connections.get_mut(&key).expect("it was just found or made"))
    }

    fn bootstrap(&self) -> Result<Connection> {
        let mut last = ClientError::Missing("no bootstrap address is given".to_owned());
        for address in &self.bootstrap {
            match Connection::open(address, self.timeout) {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to this broker, at the address that the cluster told.
    pub(super) fn broker(&mut self, broker: i32) -> Result<&mut Connection> {
        if !self.connections.contains_key(&broker) {
            let unknown = || ClientError::Missing(format!("there is no broker {broker}"));
            let address = self.brokers.get(&broker).ok_or_else(unknown)?;
            let connection = Connection::open(address, self.timeout).map_err(|error| match error {
                ClientError::Unreachable { address, cause } => ClientError::Misadvertised { broker, address, cause },
                error => error,
            })?;
            self.connections.insert(broker, connection);
        }
        Ok(self.connections.get_mut(&broker).expect("it was just made"))
    }
}
