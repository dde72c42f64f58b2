//! What goes through as it came: every byte of a request but those that have to change, every byte of an
//! answer.

use super::kit::*;
use serde_json::json;
use store::outcome::Outcome;

#[test]
fn requests_keep_their_bytes() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let site = Site::before(
        &fake,
        json!({
            "models": [
                { "name": "tuned", "targets": [{ "model": "oa/gpt-4o-mini" }], "parameters": { "temperature": 0.5 } },
                { "name": "claude", "targets": [{ "model": "an/claude-haiku-4-5" }] },
            ],
            "consumers": [{ "name": "poor", "keys": [{ "value": "pk" }], "budget": { "usd": 5, "hard": true } }],
        }),
    );
    let check = |key: &str, path: &str, sent: &str, target: &str, expected: &str| {
        let got = site.post_with(path, &format!("x-api-key: {key}\r\n"), sent);
        assert_eq!(got.status, 200, "{sent}: {}", got.body);
        let seen = fake.one();
        assert_eq!(seen.body, expected);
        assert_eq!(seen.line, format!("POST {target}"));
    };
    let chat = ("/v1/chat/completions", "/v1/chat/completions");
    check(
        "ck",
        chat.0,
        r#"{ "model" :"fast" ,"messages":[ {"role":"user","content":"\u00e9 é"} ],"x_new":1e400}"#,
        chat.1,
        r#"{ "model" :"gpt-4o-mini" ,"messages":[ {"role":"user","content":"\u00e9 é"} ],"x_new":1e400}"#,
    );
    check(
        "ck",
        chat.0,
        r#"{"messages":[{"role":"user","content":"\"model\":\"fast\""}],"model":"gpt-4o-mini"}"#,
        chat.1,
        r#"{"messages":[{"role":"user","content":"\"model\":\"fast\""}],"model":"gpt-4o-mini"}"#,
    );
    check(
        "ck",
        chat.0,
        r#"{"model":"f\u0061st","messages":[]}"#,
        chat.1,
        r#"{"model":"gpt-4o-mini","messages":[]}"#,
    );
    check(
        "ck",
        chat.0,
        r#"{"model":"tuned","messages":[],"temperature":1}"#,
        chat.1,
        r#"{"model":"gpt-4o-mini","messages":[],"temperature":1}"#,
    );
    check(
        "ck",
        chat.0,
        r#"{"model":"tuned","messages":[]}"#,
        chat.1,
        r#"{"model":"gpt-4o-mini","messages":[],"temperature":0.5}"#,
    );
    check(
        "pk",
        chat.0,
        r#"{"model":"fast","messages":[]}"#,
        chat.1,
        r#"{"model":"gpt-4o-mini","messages":[],"max_completion_tokens":4096}"#,
    );
    check(
        "pk",
        chat.0,
        r#"{"model":"fast","messages":[],"max_tokens":5}"#,
        chat.1,
        r#"{"model":"gpt-4o-mini","messages":[],"max_tokens":5}"#,
    );
    check(
        "ck",
        "/v1/responses",
        r#"{"input" :"hi","model":"fast"}"#,
        "/v1/responses",
        r#"{"input" :"hi","model":"gpt-4o-mini"}"#,
    );
    check(
        "ck",
        "/openai/v1/responses",
        r#"{"input":"hi","model":"fast"}"#,
        "/v1/responses",
        r#"{"input":"hi","model":"gpt-4o-mini"}"#,
    );
    check(
        "pk",
        "/v1/responses",
        r#"{"input":"hi","model":"fast"}"#,
        "/v1/responses",
        r#"{"input":"hi","model":"gpt-4o-mini","max_output_tokens":4096}"#,
    );
    check(
        "ck",
        "/v1/messages",
        r#"{"model":"claude", "max_tokens":9,"messages":[],"thinking":{"type":"x"}}"#,
        "/v1/messages",
        r#"{"model":"claude-haiku-4-5", "max_tokens":9,"messages":[],"thinking":{"type":"x"}}"#,
    );
    check(
        "ck",
        "/v1beta/models/ge%2Fgemini-2.5-flash:generateContent",
        r#"{"contents" :[]}"#,
        "/v1beta/models/gemini-2.5-flash:generateContent",
        r#"{"contents" :[]}"#,
    );
    check(
        "pk",
        "/v1beta/models/ge/gemini-2.5-flash:generateContent",
        r#"{"contents":[],"generationConfig":{"topK":1}}"#,
        "/v1beta/models/gemini-2.5-flash:generateContent",
        r#"{"contents":[],"generationConfig":{"topK":1,"maxOutputTokens":4096}}"#,
    );
}

#[test]
fn answers_keep_their_bytes() {
    let fake = Fake::new(|_| reply(200, "", ANSWER));
    let site = Site::before(&fake, json!({}));
    let got = site.post("/v1/chat/completions", chat("fast"));
    assert_eq!(got.body, ANSWER);
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("x-weir-model"), Some("oa/gpt-4o-mini"));
    let record = site.record();
    assert_eq!(
        (record.outcome, record.status, record.estimated),
        (Outcome::Ok, 200, false)
    );
    assert_eq!((record.usage.input, record.usage.output), (11, 7));
    assert_eq!(record.bytes_out as usize, ANSWER.len());
    assert_eq!(record.bytes_in as usize, chat("fast").len());
    assert_eq!(
        (&*record.provider, &*record.model, &*record.model_asked),
        ("oa", "gpt-4o-mini", "fast")
    );
    assert_eq!(&*record.consumer, "app");
}

#[test]
fn streams_keep_their_bytes() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    // Comments, CRLF, several lines of data, an unknown event: nothing is touched.
    let odd = "event: x\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"é\"}}],\r\ndata: \"n\":1}\r\n\r\n";
    let all = format!(": hello\n\n{}{odd}{STOP}", delta("one"));
    let with_usage = format!("{all}{USAGE}{DONE}");
    let check = |cut: usize, asks: bool| {
        let pieces: Vec<Vec<u8>> = with_usage.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect();
        fake.says(stream(&pieces, true));
        let options = if asks {
            r#""stream_options":{"include_usage":true},"#
        } else {
            ""
        };
        let sent = format!(r#"{{"model":"fast","stream":true,{options}"messages":[]}}"#);
        let got = site.post("/v1/chat/completions", &sent);
        let expected = if asks {
            with_usage.clone()
        } else {
            format!("{all}{DONE}")
        };
        assert_eq!(got.body, expected, "in pieces of {cut}");
        assert!(
            got.header("content-type")
                .is_some_and(|kind| kind.starts_with("text/event-stream"))
        );
        let seen = fake.one();
        let expected = if asks {
            r#"{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#
        } else {
            r#"{"model":"gpt-4o-mini","stream":true,"messages":[],"stream_options":{"include_usage":true}}"#
        };
        assert_eq!(seen.body, expected);
        assert_eq!(seen.header("accept"), Some("text/event-stream"));
        let record = site.record();
        assert_eq!(
            (record.outcome, record.estimated, record.streamed),
            (Outcome::Ok, false, true)
        );
        assert_eq!((record.usage.input, record.usage.output), (11, 7));
        assert_eq!(record.bytes_out as usize, got.body.len());
    };
    for cut in [1, 2, 3, 7, 64, 1000, 100_000] {
        check(cut, false);
        check(cut, true);
    }
}

#[test]
fn streams_of_other_formats_keep_their_bytes() {
    let fake = Fake::new(|_| Vec::new());
    let site = Site::before(&fake, json!({}));
    let check = |path: &str, sent: &str, bytes: &str, tokens: (u64, u64)| {
        for cut in [5, 10_000] {
            let pieces: Vec<Vec<u8>> = bytes.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect();
            fake.says(stream(&pieces, true));
            let got = site.post(path, sent);
            assert_eq!(got.body, bytes);
            let record = site.record();
            assert_eq!(record.outcome, Outcome::Ok, "{path}");
            assert_eq!(
                (record.usage.total_input(), record.usage.total_output()),
                tokens,
                "{path}"
            );
        }
    };
    check(
        "/v1/messages",
        r#"{"model":"claude-haiku-4-5","max_tokens":9,"stream":true,"messages":[]}"#,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
         event: ping\ndata: {\"type\":\"ping\"}\n\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n\
         event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":5}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        (3, 5),
    );
    check(
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        r#"{"contents":[]}"#,
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}],\"role\":\"model\"},\"index\":0}]}\r\n\r\n\
         data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"!\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":2,\"totalTokenCount\":6}}\r\n\r\n",
        (4, 2),
    );
    check(
        "/v1/responses",
        r#"{"model":"fast","stream":true,"input":"hi"}"#,
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"status\":\"in_progress\",\"output\":[]}}\n\n\
         event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"i\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[]}}\n\n\
         event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"i\",\"output_index\":0,\"content_index\":0,\"delta\":\"Hi\"}\n\n\
         event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":8,\"output_tokens\":2,\"total_tokens\":10}}}\n\n",
        (8, 2),
    );
}
