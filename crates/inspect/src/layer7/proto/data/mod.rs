//! Databases, caches, queues.

mod amqp;
mod cassandra;
mod drda;
mod kafka;
mod memcached;
mod mongodb;
mod mqtt;
mod mqtt_properties;
mod mysql;
mod pgsql;
mod redis;
mod small;
mod tds;
mod tns;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &mqtt::Mqtt,
    &pgsql::Pgsql,
    &mysql::Mysql,
    &redis::Redis,
    &mongodb::Mongodb,
    &tds::Tds,
    &memcached::MEMCACHED,
    &amqp::AMQP,
    &kafka::KAFKA,
    &cassandra::CASSANDRA,
    &tns::TNS,
    &drda::DRDA,
    &small::CEPH,
    &small::GEARMAN,
    &small::THRIFT,
    &small::NATS,
    &small::HL7,
    &small::FIX,
    &small::ZABBIX,
    &small::RAFT,
    &small::SMPP,
    &small::Z3950,
    &small::DICOM,
];
