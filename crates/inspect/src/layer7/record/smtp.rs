//! One mail handed over by SMTP.

use serde::Serialize;

/// EVE's `smtp`, and the `email` object that stands beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Smtp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail_from: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rcpt_to: Vec<String>,
    #[serde(skip)]
    pub email: Option<Email>,
}

/// EVE's `email`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Email {
    /// How far it was read: `PARSE_DONE` if to its end.
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cc: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x_mailer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<String>,
    /// Names of the files in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachment: Vec<String>,
    /// Links in its texts, without `http://`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub url: Vec<String>,
}
