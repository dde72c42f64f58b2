//! The endpoints as an OpenAPI document. Written by hand, for it is read by people and by
//! generators of clients, and held to the routes by a test.

/// OpenAPI 3.1, JSON.
pub const DOCUMENT: &str = include_str!("openapi.json");
