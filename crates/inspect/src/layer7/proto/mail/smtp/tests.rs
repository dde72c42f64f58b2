//! Conversations, and what is told of them.

use serde_json::{Value, json};

use crate::layer7::insight::Insight;
use crate::layer7::kit::{self, Outcome, Said};
use crate::layer7::record::Record;

/// Records of mails with their `email` objects.
fn told(outcome: &Outcome) -> Vec<Value> {
    let smtp = |record: &Record| match record {
        Record::Smtp(smtp) => {
            let mut body = serde_json::to_value(smtp).expect("JSON");
            body["email"] = serde_json::to_value(&smtp.email).expect("JSON");
            body
        }
        other => other.body().expect("JSON"),
    };
    outcome.records.iter().map(smtp).collect()
}

#[track_caller]
fn check(said: &[Said<'_>], app: &str, expected: &[Value]) -> Insight {
    let outcome = kit::stream(said);
    assert_eq!(outcome.insight.app, Some(app));
    assert_eq!(told(&outcome), expected);
    kit::check_cuts(said);
    outcome.insight
}

const GREETING: Said<'_> = (1, b"220 mx.example.com ESMTP Postfix\r\n");
const OK: Said<'_> = (1, b"250 Ok\r\n");

#[test]
fn a_mail_is_sent() {
    let insight = check(
        &[
            GREETING,
            (0, b"EHLO client\r\n"),
            (1, b"250-mx.example.com\r\n250 PIPELINING\r\n"),
            (
                0,
                b"MAIL FROM:<a@x> SIZE=1\r\nRCPT TO:<b@y>\r\nrcpt to: c@y\r\nDATA\r\n",
            ),
            (1, b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 go on\r\n"),
            (0, b"From: a@x\r\nTo: b@y\r\n\r\n..\r\nhttp://u.v/\r\n.\r\n"),
            OK,
            (0, b"QUIT\r\n"),
            (1, b"221 Bye\r\n"),
        ],
        "smtp",
        &[
            json!({"helo": "client", "mail_from": "<a@x>", "rcpt_to": ["<b@y>", "c@y"], "email":
            {"status": "PARSE_DONE", "from": "a@x", "to": ["b@y"], "url": ["u.v/"]}}),
        ],
    );
    assert_eq!(insight.host.as_deref(), Some("mx.example.com"));
}

#[test]
fn mails_are_given_up_and_refused() {
    check(
        &[
            GREETING,
            (0, b"helo c\r\n"),
            OK,
            (0, b"rcpt to:<b@y>\r\n"),
            (1, b"503 need MAIL\r\n"),
            (0, b"data\r\n"),
            (1, b"503 need RCPT\r\n"),
            (0, b"mail from:<a@x>\r\n"),
            OK,
            (0, b"mail from:<z@x>\r\n"),
            (1, b"503 nested\r\n"),
            (0, b"RSET\r\n"),
            OK,
            (0, b"MAIL FROM:<>\r\n"),
            OK,
        ],
        "smtp",
        &[
            json!({"helo": "c", "mail_from": "<a@x>", "email": null}),
            json!({"helo": "c", "mail_from": "<>", "email": null}),
        ],
    );
    check(
        &[GREETING, (0, b"HELO c\r\n"), OK, (0, b"QUIT\r\n")],
        "smtp",
        &[json!({"helo": "c", "email": null})],
    );
}

#[test]
fn a_mail_in_chunks() {
    check(
        &[
            GREETING,
            (0, b"EHLO c\r\n"),
            OK,
            (0, b"MAIL FROM:<a@x>\r\nBDAT 5 X\r\nBDAT 12\r\nSubject: s\r\nBDAT 5 LAST\r\n\r\n.\r\nMAIL FROM:<b@x>\r\n"),
        ],
        "smtp",
        &[
            json!({"helo": "c", "mail_from": "<a@x>", "email": {"status": "PARSE_DONE", "subject": "s"}}),
            json!({"helo": "c", "mail_from": "<b@x>", "email": null}),
        ],
    );
}

#[test]
fn log_ins() {
    let count = |said: &[Said<'_>]| {
        let said = [&[GREETING, (0, b"EHLO c\r\n"), OK][..], said].concat();
        kit::check_cuts(&said);
        let insight = kit::stream(&said).insight;
        let counts = [
            insight.logins_attempted,
            insight.logins_succeeded,
            insight.logins_failed,
        ];
        (
            insight.user.map(String::from),
            insight.has_clear_credential,
            counts,
        )
    };
    let user = || Some("user".to_owned());
    assert_eq!(
        count(&[(0, b"AUTH PLAIN AHVzZXIAcGFzcw==\r\n"), (1, b"235 ok\r\n")]),
        (user(), true, [1, 1, 0])
    );
    assert_eq!(
        count(&[
            (0, b"AUTH LOGIN\r\n"),
            (1, b"334 VXNlcm5hbWU6\r\n"),
            (0, b"dXNlcg==\r\n"),
            (1, b"334 UGFzc3dvcmQ6\r\n"),
            (0, b"cGFzcw==\r\n"),
            (1, b"535 no\r\n"),
        ]),
        (user(), true, [1, 0, 1])
    );
    assert_eq!(
        count(&[
            (0, b"AUTH CRAM-MD5\r\n"),
            (1, b"334 PDE+\r\n"),
            (0, b"dXNlciAwMTIz\r\n"),
            (1, b"235 ok\r\n"),
        ]),
        (user(), false, [1, 1, 0])
    );
}

#[test]
fn tls_begins() {
    let said: [Said<'_>; 6] = [
        GREETING,
        (0, b"EHLO c\r\n"),
        OK,
        (0, b"STARTTLS\r\n"),
        (1, b"220 Ready\r\n"),
        (0, b"\x00\x00\x00\x00\x00\x00"),
    ];
    let insight = kit::stream(&said).insight;
    assert_eq!(insight.app_before, Some("smtp"));
    kit::check_cuts(&said);
}
