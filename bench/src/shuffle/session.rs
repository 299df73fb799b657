//! One application with one shuffle: its maps push, its reduces read and check every byte.
//!
//! Each connection is a client of its own, as an executor is one: a map after the other, or a reduce after the other, with
//! one request under way. A refused ticket is asked for again after the pause that Spark's client makes.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::task::JoinSet;

use super::job::{Block, Job, attempt};
use super::netty::ServerName;
use super::plane::{Client, Of, Ticket, Transport, assignments};
use super::reduce::{Seen, read_disk, read_memory};
use crate::latency::Tally;

/// The first pause after a refusal, which doubles up to the longest.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Refusals of one ticket after which a task fails.
const REFUSALS_MAX: u32 = 50;

/// How a job is pushed and read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
    /// A request has blocks of at most this many bytes, or one block.
    pub(crate) request_bytes: usize,
}

/// What pushing took.
#[derive(Default)]
pub(crate) struct Pushed {
    pub(crate) tickets: Tally,
    pub(crate) sends: Tally,
    pub(crate) refused_count: u64,
    pub(crate) elapsed: Duration,
}

/// What reading took. Times are sums over all connections.
#[derive(Default)]
pub(crate) struct Fetched {
    pub(crate) memory: Tally,
    pub(crate) memory_time: Duration,
    pub(crate) disk: Tally,
    pub(crate) disk_time: Duration,
    /// Blocks that came more than once.
    pub(crate) repeated_count: u64,
    pub(crate) elapsed: Duration,
}

impl AddAssign<&Pushed> for Pushed {
    fn add_assign(&mut self, other: &Pushed) {
        self.tickets.merge(&other.tickets);
        self.sends.merge(&other.sends);
        self.refused_count += other.refused_count;
        self.elapsed += other.elapsed;
    }
}

impl AddAssign<&Fetched> for Fetched {
    fn add_assign(&mut self, other: &Fetched) {
        self.memory.merge(&other.memory);
        self.memory_time += other.memory_time;
        self.disk.merge(&other.disk);
        self.disk_time += other.disk_time;
        self.repeated_count += other.repeated_count;
        self.elapsed += other.elapsed;
    }
}

/// A registered shuffle.
pub(crate) struct Session {
    job: Arc<Job>,
    manner: Manner,
    of: Of,
    servers: Arc<Vec<ServerName>>,
    /// Which of these holds each partition.
    server_of: Arc<Vec<usize>>,
}

impl Session {
    pub(crate) async fn open(
        coordinator: SocketAddr,
        application: &str,
        job: Arc<Job>,
        manner: Manner,
    ) -> Result<Session> {
        let of = Of { application: application.to_owned(), shuffle: 0 };
        let partitions = i32::try_from(job.reduces)?;
        let assigned = assignments(coordinator, manner.transport, &of, partitions).await?;
        let (mut servers, mut server_of) = (Vec::<ServerName>::new(), vec![None; job.reduces as usize]);
        for range in assigned {
            let told = range.server.first().context("a range of partitions has no server")?;
            let at = servers.iter().position(|known| known.id == told.id).unwrap_or(servers.len());
            if at == servers.len() {
                let (id, host) = (told.id.clone(), told.ip.clone());
                servers.push(ServerName { id, host, grpc_port: told.port, netty_port: told.netty_port });
            }
            for partition in range.start_partition..=range.end_partition {
                let place = usize::try_from(partition).ok().and_then(|partition| server_of.get_mut(partition));
                *place.with_context(|| format!("partition {partition} was not asked for"))? = Some(at);
            }
        }
        let server_of = server_of.into_iter().collect::<Option<Vec<_>>>().context("a partition has no server")?;
        let session = Session { job, manner, of, servers: Arc::new(servers), server_of: Arc::new(server_of) };
        for (at, mut client) in session.clients().await?.into_iter().enumerate() {
            let here = session.server_of.iter().enumerate().filter(|(_, server)| **server == at);
            let here = here.map(|(partition, _)| i32::try_from(partition)).collect::<Result<Vec<_>, _>>()?;
            client.register(&here).await?;
        }
        Ok(session)
    }

    /// A client of each server.
    async fn clients(&self) -> Result<Vec<Client>> {
        let partitions = i32::try_from(self.job.reduces)?;
        let mut clients = Vec::new();
        for server in self.servers.iter() {
            clients.push(Client::connect(server, self.manner.transport, self.of.clone(), partitions).await?);
        }
        Ok(clients)
    }

    pub(crate) async fn push(&self) -> Result<Pushed> {
        let (next, mut running) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        for clients in self.all_clients().await? {
            let pushed = Pushed::default();
            let (job, manner, server_of) = (Arc::clone(&self.job), self.manner, Arc::clone(&self.server_of));
            running.spawn(Pusher { job, manner, server_of, clients, pushed }.run(Arc::clone(&next)));
        }
        let (began, mut all) = (Instant::now(), Pushed::default());
        while let Some(ended) = running.join_next().await {
            all += &ended??;
        }
        all.elapsed = began.elapsed();
        Ok(all)
    }

    pub(crate) async fn read(&self) -> Result<Fetched> {
        let (next, mut running) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        for clients in self.all_clients().await? {
            let (job, server_of) = (Arc::clone(&self.job), Arc::clone(&self.server_of));
            running.spawn(reduces(job, server_of, clients, Arc::clone(&next)));
        }
        let (began, mut all) = (Instant::now(), Fetched::default());
        while let Some(ended) = running.join_next().await {
            all += &ended??;
        }
        all.elapsed = began.elapsed();
        Ok(all)
    }

    async fn all_clients(&self) -> Result<Vec<Vec<Client>>> {
        let mut all = Vec::new();
        for _ in 0..self.manner.connections.max(1) {
            all.push(self.clients().await?);
        }
        Ok(all)
    }

    pub(crate) async fn close(self) -> Result<()> {
        for mut client in self.clients().await? {
            client.unregister().await?;
        }
        Ok(())
    }
}

/// One connection's maps.
struct Pusher {
    job: Arc<Job>,
    manner: Manner,
    server_of: Arc<Vec<usize>>,
    clients: Vec<Client>,
    pushed: Pushed,
}

/// What a server is sent next, and what it was sent.
#[derive(Default)]
struct Group<'a> {
    blocks: Vec<Block<'a>>,
    bytes: usize,
    sent: std::collections::BTreeMap<i32, Vec<i64>>,
}

impl Pusher {
    async fn run(mut self, next: Arc<AtomicU32>) -> Result<Pushed> {
        loop {
            let map = next.fetch_add(1, Ordering::Relaxed);
            if map >= self.job.maps {
                return Ok(self.pushed);
            }
            self.map(map).await.with_context(|| format!("map {map}"))?;
        }
    }

    async fn map(&mut self, map: u32) -> Result<()> {
        let (job, server_of) = (Arc::clone(&self.job), Arc::clone(&self.server_of));
        let mut groups: Vec<Group<'_>> = self.clients.iter().map(|_| Group::default()).collect();
        for block in job.blocks(map) {
            let server = usize::try_from(block.partition).ok().and_then(|partition| server_of.get(partition));
            let server = *server.context("every partition has a server")?;
            let group = groups.get_mut(server).context("every server has a group")?;
            let bytes = block.payload.data.len();
            if !group.blocks.is_empty() && group.bytes + bytes > self.manner.request_bytes {
                self.send(server, group).await?;
            }
            group.blocks.push(block);
            group.bytes += bytes;
        }
        for (server, mut group) in groups.into_iter().enumerate() {
            self.send(server, &mut group).await?;
            let client = self.clients.get_mut(server).context("every server has a client")?;
            client.report(attempt(map), group.sent.into_iter().collect()).await?;
        }
        Ok(())
    }

    async fn send(&mut self, server: usize, group: &mut Group<'_>) -> Result<()> {
        if group.blocks.is_empty() {
            return Ok(());
        }
        // Clients sort what they send by partition.
        group.blocks.sort_by_key(|block| block.partition);
        let began = Instant::now();
        let ticket = self.ticket(server, &group.blocks).await?;
        self.pushed.tickets.complete(0, began.elapsed());
        let client = self.clients.get_mut(server).context("every server has a client")?;
        let began = Instant::now();
        client.send(ticket, &group.blocks).await?;
        self.pushed.sends.complete(group.bytes as u64, began.elapsed());
        for block in group.blocks.drain(..) {
            group.sent.entry(block.partition).or_default().push(block.id);
        }
        group.bytes = 0;
        Ok(())
    }

    async fn ticket(&mut self, server: usize, blocks: &[Block<'_>]) -> Result<i64> {
        let mut pause = PAUSE;
        for _ in 0..REFUSALS_MAX {
            let client = self.clients.get_mut(server).context("every server has a client")?;
            match client.require(blocks).await? {
                Ticket::Granted(ticket) => return Ok(ticket),
                Ticket::NoBuffer => self.pushed.refused_count += 1,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        anyhow::bail!("no ticket after {REFUSALS_MAX} refusals")
    }
}

/// One connection's reduces.
async fn reduces(
    job: Arc<Job>,
    server_of: Arc<Vec<usize>>,
    mut clients: Vec<Client>,
    next: Arc<AtomicU32>,
) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    loop {
        let reduce = next.fetch_add(1, Ordering::Relaxed);
        let Some(&server) = server_of.get(reduce as usize) else {
            return Ok(fetched);
        };
        let client = clients.get_mut(server).context("every server has a client")?;
        self::reduce(&job, reduce, client, &mut fetched).await.with_context(|| format!("reduce {reduce}"))?;
    }
}

/// Memory until it is empty, then files; no further than what was reported.
async fn reduce(job: &Job, reduce: u32, client: &mut Client, fetched: &mut Fetched) -> Result<()> {
    let partition = reduce.cast_signed();
    let reported: Vec<i64> = client.reported(partition).await?.iter().collect();
    let mut seen = Seen::new(job, job.expected(reduce));
    ensure!(seen.expects(&reported), "{} blocks are reported, or others than were sent", reported.len());
    let began = Instant::now();
    read_memory(client, partition, &mut seen, &mut fetched.memory).await?;
    fetched.memory_time += began.elapsed();
    if !seen.is_complete() {
        let began = Instant::now();
        read_disk(client, partition, &mut seen, &mut fetched.disk).await?;
        fetched.disk_time += began.elapsed();
    }
    fetched.repeated_count += seen.repeated_count;
    seen.check()
}
