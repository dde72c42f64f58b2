//! Databases, caches, queues.

mod mongodb;
mod mqtt;
mod mqtt_properties;
mod mysql;
mod pgsql;
mod redis;
mod tds;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &mqtt::Mqtt,
    &pgsql::Pgsql,
    &mysql::Mysql,
    &redis::Redis,
    &mongodb::Mongodb,
    &tds::Tds,
];
