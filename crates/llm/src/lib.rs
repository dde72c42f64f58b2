//! The wire formats of AI providers. Pure: no files, sockets, clocks or randomness.
//!
//! * [`sse`]: the one framer of text streams (server-sent events, JSON by lines, the items of an array).
//! * [`eventstream`]: the framer of AWS's binary event streams, which Bedrock speaks.
//! * [`usage`]: what a call used, in buckets of tokens that do not overlap.
//! * [`canonical`] and [`answer`]: the one model of a request and of its answer, whole or streamed;
//!   [`convert`] reads and writes them in each [`format`], whose modules have its name;
//!   [`assemble`] makes a whole answer of a stream;
//!   [`shape_as_tool`] is for models that take no shape of an answer.
//! * [`money`]: exact prices, and what a call costs by them, rounded once.
//! * [`embeddings`], [`count`], [`models`], [`rerank`] and [`completions`]: the lesser endpoints.
//! * [`catalogue`]: the models that ship, what they can do and cost; an operator's own over them.
//! * [`presets`]: providers as rows of data; [`sigv4`]: the signatures that AWS wants.
//! * [`estimate`]: how many tokens a text is, about and at most.
//! * [`error`]: error answers, from any provider into the format of the client.
//! * [`pii`]: personal data in texts and streams, found and masked, replaced or put back later.
//! * [`guard`]: words and patterns that are blocked, masked or noted.
//! * [`splice`]: replaces named fields in the bytes of a JSON document and leaves all others as they are.
//!
//! No function here panics on any input. Every buffer has a limit that the caller names.

pub mod answer;
pub mod assemble;
pub mod canonical;
pub mod catalogue;
pub mod chat;
pub mod cohere;
pub mod completions;
pub mod converse;
pub mod convert;
pub mod count;
pub mod embeddings;
pub mod error;
pub mod estimate;
pub mod eventstream;
pub mod format;
pub mod generate_content;
pub mod guard;
pub mod messages;
pub mod models;
pub mod money;
pub mod parameters;
pub mod pii;
pub mod presets;
pub mod rerank;
pub mod responses;
pub mod shape_as_tool;
pub mod sigv4;
pub mod splice;
pub mod sse;
pub mod usage;
