//! Which quota holds for a client: the most specific that is set, in Kafka's order.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use watershed_core::units::ShardId;

use super::{SAMPLE_US, SAMPLES_COUNT};
use crate::catalog::{
    CLIENT_ID, CONSUMER_BYTE_RATE, CONTROLLER_MUTATION_RATE, ClientQuota, PRODUCER_BYTE_RATE, REQUEST_PERCENTAGE, USER,
};

/// The user of a connection that has not logged in.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Bytes of Produce requests.
    Produce,
    /// Bytes of Fetch responses.
    Fetch,
    /// Time of this process's threads, in percent of one.
    Request,
    /// Partitions created and deleted.
    Mutation,
}

impl Quantity {
    fn from_key(key: &str) -> Option<Quantity> {
        match key {
            PRODUCER_BYTE_RATE => Some(Quantity::Produce),
            CONSUMER_BYTE_RATE => Some(Quantity::Fetch),
            REQUEST_PERCENTAGE => Some(Quantity::Request),
            CONTROLLER_MUTATION_RATE => Some(Quantity::Mutation),
            _ => None,
        }
    }
}

/// Whose use is counted together: a user, a client id or their pair, whatever of them the quota is for. Clients that only
/// the same default applies to are counted apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeterKey {
    pub quantity: Quantity,
    pub user: Option<String>,
    pub client_id: Option<String>,
}

impl MeterKey {
    /// The shard that counts for this key.
    pub fn shard(&self, shard_count: u16) -> ShardId {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        let place = hasher.finish() % u64::from(shard_count.max(1));
        ShardId(u16::try_from(place).expect("below a 16-bit count"))
    }
}

/// The quota that holds for a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub key: MeterKey,
    /// Units per second.
    pub rate: f64,
}

impl Limit {
    /// What one answer may hold at most: more than the whole window could never be paid for.
    pub fn window_amount(&self) -> f64 {
        self.rate * ((SAMPLES_COUNT - 1) * SAMPLE_US) as f64 / 1e6
    }
}

/// A part of an entity: `None` if it has no such part, `Some(None)` for the default.
type Part = Option<Option<String>>;

/// Every quota of the catalog.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuotaTable(BTreeMap<(Quantity, Part, Part), f64>);

impl QuotaTable {
    /// From what the catalog says; quotas of other kinds are left out.
    pub fn new(quotas: impl Iterator<Item = ClientQuota>) -> QuotaTable {
        let row = |quota: ClientQuota| {
            let part = |kind: &str| {
                let part = quota.entity.iter().find(|(other, _)| other == kind);
                part.map(|(_, name)| name.clone())
            };
            let (user, client_id) = (part(USER), part(CLIENT_ID));
            let is_ours = user.is_some() || client_id.is_some();
            let quantity = Quantity::from_key(&quota.key).filter(|_| is_ours)?;
            Some(((quantity, user, client_id), quota.value))
        };
        QuotaTable(quotas.filter_map(row).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The quota that holds for a client, if there is one.
    pub fn limit(&self, quantity: Quantity, user: &str, client_id: &str) -> Option<Limit> {
        self.0.range((quantity, None, None)..).next().filter(|((first, ..), _)| *first == quantity)?;
        let (user, client) = (user.to_owned(), client_id.to_owned());
        let named = |name: &String| Some(Some(name.clone()));
        let any: Part = Some(None);
        let levels: [(Part, Part); 8] = [
            (named(&user), named(&client)),
            (named(&user), any.clone()),
            (named(&user), None),
            (any.clone(), named(&client)),
            (any.clone(), any.clone()),
            (any.clone(), None),
            (None, named(&client)),
            (None, any),
        ];
        levels.into_iter().find_map(|(of_user, of_client)| {
            let key = MeterKey {
                quantity,
                user: of_user.is_some().then(|| user.clone()),
                client_id: of_client.is_some().then(|| client.clone()),
            };
            let rate = *self.0.get(&(quantity, of_user, of_client))?;
            Some(Limit { key, rate })
        })
    }
}
