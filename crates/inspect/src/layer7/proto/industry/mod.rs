//! Plants, grids, buildings and vehicles.

mod controllers;
mod dnp3;
mod enip;
mod modbus;
mod small;

use crate::layer7::protocol::Protocol;

/// The protocols of this folder.
pub(super) const ALL: &[&dyn Protocol] = &[
    &dnp3::Dnp3,
    &enip::Enip,
    &modbus::Modbus,
    &small::S7COMM,
    &small::MMS,
    &small::BACNET,
    &small::IEC104,
    &small::DLMS,
    &small::OPCUA,
    &small::KNX,
    &small::C1222,
    &small::SOMEIP,
    &small::TRDP,
    &small::RTPS,
    &small::ETHERSIO,
    &small::FLUTE,
    &small::ROUGHTIME,
    &small::CNPIP,
    &small::HARTIP,
    &small::FINS,
    &small::DOIP,
    &small::BFCP,
    &small::SYNCHROPHASOR,
    &controllers::HISLIP,
    &controllers::ADS,
    &controllers::EGD,
    &controllers::ETHERSBUS,
];
