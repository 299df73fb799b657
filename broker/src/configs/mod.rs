//! Configurations by Kafka's names: one table of topics', one of the broker's properties, each row with its type, default,
//! valid values, documentation and what it does here.
//!
//! Owns what a value means and where it comes from; reads no file and no flag. A row that has no effect here yet is
//! refused with its reason when a value other than the default is asked for, never taken silently.

mod broker;
mod broker_table;
mod describe;
mod effective;
mod group;
mod topic;
mod topic_table;
mod value;

pub use broker::{BrokerConfigs, BrokerProperties, BrokerRow, PropertyMistake, property};
pub use broker_table::BROKER_ROWS;
pub use describe::{ConfigEntry, ConfigSource, Synonym, describe_broker, describe_broker_defaults, describe_topic};
pub use effective::{CompressionSettings, TopicSettings, effective_topic_settings};
pub use group::{GROUP_ROWS, GroupRow, describe_group, group_row, validate_group};
pub use topic::{TopicRow, topic_row, topic_value, validate_topic};
pub use topic_table::TOPIC_ROWS;
pub(crate) use value::parts;
pub use value::{ConfigType, Served, Valid, check_value};
