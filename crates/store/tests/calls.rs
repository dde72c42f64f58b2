//! Records of calls: from the queue to the files and back.

use llm::usage::Usage;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::calls::{
    AuditRecord, CallFilter, CallGroup, CallOptions, CallQuery, CallReader, CallRecord, CallSink, Calls,
    Guard, Latency, LineTarget, Protocol,
};
use store::outcome::Outcome;
use tempfile::TempDir;

const NOW: i64 = 1_795_214_605_123; // 2026-11-20T22:43:25Z
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn start(options: CallOptions) -> Calls {
    Calls::start(options, Arc::new(|| NOW)).unwrap()
}

fn call(n: u8, at_ms: i64) -> CallRecord {
    CallRecord {
        at_ms,
        request_id: [n; 16],
        organisation: "default".into(),
        ..CallRecord::default()
    }
}

fn full(at_ms: i64) -> CallRecord {
    CallRecord {
        at_ms,
        request_id: *b"0123456789abcdef",
        organisation: "org".into(),
        team: "red".into(),
        consumer: "shop".into(),
        key_id: "k1".into(),
        user: "ann".into(),
        service: "chat".into(),
        route: "/v1/*".into(),
        ingress: Protocol::Messages,
        wire: Protocol::Chat,
        model_asked: "smart".into(),
        model: "gpt".into(),
        provider: "openai".into(),
        provider_key_id: "p1".into(),
        status: 502,
        outcome: Outcome::BrokenReply,
        usage: Usage {
            input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            input_audio: 5,
            input_image: 6,
            output: 7,
            reasoning: 8,
            output_audio: 9,
            output_image: 10,
        },
        cost_pusd: 123_456_789_012,
        estimated: true,
        price_assumed: true,
        latency: Latency {
            queue_us: 1,
            connect_us: 2,
            first_byte_us: 3,
            stream_us: 4,
            total_us: u32::MAX,
        },
        attempts: 3,
        retries: 2,
        cache_hit: true,
        streamed: true,
        bytes_in: 11,
        bytes_out: 12,
        client_ip: Some("2001:db8::1".parse().unwrap()),
        country: *b"DE",
        dropped: "logit_bias,seed".into(),
        pii_in: 4,
        pii_out: 5,
        guard: Guard::Changed,
    }
}

fn bench() -> (TempDir, Calls, CallReader) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls");
    (
        folder,
        start(CallOptions::new(&path)),
        CallReader::open(&path).unwrap(),
    )
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    names.sort();
    names
}

fn page(filter: CallFilter, limit: usize) -> CallQuery {
    CallQuery {
        filter,
        limit,
        cursor: None,
    }
}

#[tokio::test]
async fn every_field_comes_back() {
    let (folder, calls, reader) = bench();
    let mut plain = call(1, NOW + 1);
    plain.client_ip = Some("192.0.2.7".parse().unwrap());
    plain.usage.input = u64::MAX;
    calls.record(full(NOW));
    calls.record(plain.clone());
    calls.flush().await;
    // Stored up to a bound, so that sums hold.
    plain.usage.input = 1 << 40;
    let found = reader.calls(page(CallFilter::default(), 10)).await.unwrap();
    assert_eq!(found.calls, [plain, full(NOW)]);
    assert_eq!((found.next, found.unreadable.len()), (None, 0));
    assert_eq!(names(&folder.path().join("calls")), ["calls-2026-11-20.sqlite"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let path = folder.path().join("calls");
    assert_eq!(
        (mode(&path), mode(&path.join("calls-2026-11-20.sqlite"))),
        (0o700, 0o600)
    );
}

#[tokio::test]
async fn filters_select() {
    let (_folder, calls, reader) = bench();
    calls.record(full(NOW));
    for n in 0..20 {
        calls.record(call(n, NOW - i64::from(n) * HOUR));
    }
    calls.flush().await;
    let check = async |filter: CallFilter, expected: usize| {
        let found = reader.calls(page(filter.clone(), 100)).await.unwrap();
        assert_eq!(found.calls.len(), expected, "{filter:?}");
    };
    let none = CallFilter::default;
    let text = |text: &str| Some(text.to_owned());
    check(none(), 21).await;
    check(
        CallFilter {
            organisation: text("org"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            team: text("red"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            consumer: text("shop"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            consumer: text("shop' OR 1=1 --"),
            ..none()
        },
        0,
    )
    .await;
    check(
        CallFilter {
            key_id: text("k1"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            user: text("ann"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            service: text("chat"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            model: text("gpt"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            provider: text("openai"),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            outcome: Some(Outcome::BrokenReply),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            outcome: Some(Outcome::Ok),
            ..none()
        },
        20,
    )
    .await;
    check(
        CallFilter {
            status: Some(502),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            cost_min_pusd: Some(123_456_789_012),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            cost_min_pusd: Some(123_456_789_013),
            ..none()
        },
        0,
    )
    .await;
    check(
        CallFilter {
            request_id: Some([7; 16]),
            ..none()
        },
        1,
    )
    .await;
    check(
        CallFilter {
            since_ms: Some(NOW - 3 * HOUR),
            ..none()
        },
        5,
    )
    .await;
    check(
        CallFilter {
            until_ms: Some(NOW - 3 * HOUR),
            ..none()
        },
        16,
    )
    .await;
    check(
        CallFilter {
            since_ms: Some(NOW - 3 * HOUR),
            until_ms: Some(NOW),
            ..none()
        },
        3,
    )
    .await;
    check(
        CallFilter {
            since_ms: Some(NOW),
            until_ms: Some(NOW - 1),
            ..none()
        },
        0,
    )
    .await;
}

#[tokio::test]
async fn pages_follow_each_other_over_days_without_gap_or_repeat() {
    let (folder, calls, reader) = bench();
    // Out of order, many in one millisecond, over three days.
    for n in 0..250_u8 {
        calls.record(call(n, NOW - i64::from(n % 3) * DAY + i64::from(n % 7)));
    }
    calls.flush().await;
    assert_eq!(names(&folder.path().join("calls")).len(), 3);
    let mut query = page(CallFilter::default(), 17);
    let mut seen = Vec::new();
    loop {
        let found = reader.calls(query.clone()).await.unwrap();
        assert!(found.calls.len() <= 17);
        seen.extend(found.calls);
        let json = serde_json::to_value(found.next).unwrap();
        let Some(next) = found.next else { break };
        assert_eq!(json, next.to_string());
        query.cursor = Some(next.to_string().parse().unwrap());
    }
    assert_eq!(seen.len(), 250);
    assert!(seen.is_sorted_by(|a, b| a.at_ms >= b.at_ms));
    let mut ids: Vec<_> = seen.iter().map(|call| call.request_id[0]).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..250).collect::<Vec<u8>>());
    assert!("not a cursor".parse::<store::calls::Cursor>().is_err());
}

#[tokio::test]
async fn sums_are_exact() {
    let (_folder, calls, reader) = bench();
    for n in 0..6_u8 {
        let mut call = full(NOW - i64::from(n % 3) * DAY);
        call.cost_pusd = i64::MAX - 1;
        call.estimated = n == 0;
        call.model = ["a", "b"][usize::from(n % 2)].into();
        call.outcome = [Outcome::Ok, Outcome::Timeout][usize::from(n == 5)];
        calls.record(call);
    }
    calls.record(call(9, NOW));
    calls.flush().await;
    let each = i128::from(i64::MAX - 1);
    let all = reader.sums(CallFilter::default(), CallGroup::All).await.unwrap();
    assert_eq!((all.rows.len(), all.missing_before, all.is_cut), (1, None, false));
    let all = &all.rows[0];
    assert_eq!((all.calls, all.failed, all.cache_hits), (7, 1, 6));
    assert_eq!(
        (all.cost_pusd, all.estimated_pusd, all.assumed_pusd),
        (6 * each, each, 6 * each)
    );
    assert_eq!(
        (all.usage.input, all.usage.output_image, all.bytes_out),
        (6, 60, 72)
    );
    assert_eq!(all.total_us, 6 * u64::from(u32::MAX));
    let json = serde_json::to_value(all).unwrap();
    assert_eq!(
        json["cost_usd"], "55340232.221128654836",
        "text, since it has too many digits for a number"
    );
    assert_eq!(
        (&json["calls"], &json["usage"]["output_image"]),
        (&7.into(), &60.into())
    );
    let check = async |group, expected: &[(&str, u64, i128)]| {
        let sums = reader.sums(CallFilter::default(), group).await.unwrap();
        let rows: Vec<_> = sums
            .rows
            .iter()
            .map(|row| (row.of.as_str(), row.calls, row.cost_pusd))
            .collect();
        assert_eq!(rows, expected, "{group:?}");
    };
    check(
        CallGroup::Model,
        &[("a", 3, 3 * each), ("b", 3, 3 * each), ("", 1, 0)],
    )
    .await;
    check(CallGroup::Consumer, &[("shop", 6, 6 * each), ("", 1, 0)]).await;
    check(CallGroup::Provider, &[("openai", 6, 6 * each), ("", 1, 0)]).await;
    check(CallGroup::Outcome, &[("ok", 6, 5 * each), ("timeout", 1, each)]).await;
    let days = [
        ("2026-11-20", 3, 2 * each),
        ("2026-11-19", 2, 2 * each),
        ("2026-11-18", 2, 2 * each),
    ];
    check(CallGroup::Day, &days).await;
    let hour = CallFilter {
        since_ms: Some(NOW),
        ..CallFilter::default()
    };
    let hours = reader.sums(hour, CallGroup::Hour).await.unwrap().rows;
    assert_eq!(
        (hours[0].of.as_str(), hours[0].calls, hours.len()),
        ("2026-11-20T22:00:00.000Z", 3, 1)
    );
}

#[tokio::test]
async fn a_full_queue_loses_and_counts_and_never_waits() {
    let folder = tempfile::tempdir().unwrap();
    // A pipe that nobody reads: the writer stands still in it.
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let lines = LineTarget::File {
        path: pipe.clone(),
        bytes_max: u64::MAX,
        files_kept: 1,
    };
    let options = CallOptions {
        queue: 100,
        lines: Some(lines),
        ..CallOptions::new(folder.path().join("calls"))
    };
    let calls = start(options);
    let begun = Instant::now();
    for n in 0..100_000_u32 {
        calls.record(call(n as u8, NOW));
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let status = calls.status();
    assert_eq!(status.taken + status.lost_queue, 100_000);
    assert!(status.lost_queue > 90_000, "{status:?}");
    let mut reader = std::fs::File::open(&pipe).unwrap();
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    calls.flush().await;
    let sums = CallReader::open(&folder.path().join("calls")).unwrap();
    let sums = sums.sums(CallFilter::default(), CallGroup::All).await.unwrap();
    assert_eq!(
        sums.rows[0].calls,
        calls.status().taken,
        "what was taken is written"
    );
}

#[tokio::test]
async fn lines_and_history_have_the_same_calls() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let lines = LineTarget::File {
        path: path.clone(),
        bytes_max: 1 << 20,
        files_kept: 1,
    };
    let calls = start(CallOptions {
        lines: Some(lines),
        ..CallOptions::new(folder.path().join("calls"))
    });
    for n in 0..50 {
        calls.record(call(n, NOW));
    }
    drop(calls);
    let text = std::fs::read_to_string(&path).unwrap();
    let ids: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].to_string())
        .collect();
    assert_eq!(
        (ids.len(), ids[2].as_str()),
        (50, "\"02020202020202020202020202020202\"")
    );
    let reader = CallReader::open(&folder.path().join("calls")).unwrap();
    assert_eq!(
        reader
            .calls(page(CallFilter::default(), 100))
            .await
            .unwrap()
            .calls
            .len(),
        50
    );
}

#[tokio::test]
async fn retention_drops_whole_days_and_never_today() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls");
    let calls = start(CallOptions {
        days_kept: 1_000,
        ..CallOptions::new(&path)
    });
    for days in [0, 1, 2, 30, 31, 40] {
        calls.record(call(0, NOW - days * DAY));
    }
    drop(calls);
    std::fs::write(path.join("calls-2000-13-01.sqlite"), "not ours").unwrap();
    std::fs::write(path.join("notes.txt"), "not ours").unwrap();
    assert_eq!(names(&path).len(), 8);
    let kept = |calls: &Calls| (names(&path), calls.status().days_dropped);
    let calls = start(CallOptions::new(&path));
    calls.flush().await;
    let ours = [
        "calls-2026-10-21",
        "calls-2026-11-18",
        "calls-2026-11-19",
        "calls-2026-11-20",
    ];
    let with_others = |ours: &[&str]| {
        let mut names = vec!["calls-2000-13-01.sqlite".to_owned()];
        names.extend(ours.iter().map(|name| format!("{name}.sqlite")));
        names.push("notes.txt".to_owned());
        names
    };
    assert_eq!(kept(&calls), (with_others(&ours), 2));
    drop(calls);
    // By size: the oldest go, today stays although it alone is too large.
    let calls = start(CallOptions {
        bytes_kept: 1,
        ..CallOptions::new(&path)
    });
    calls.record(call(0, NOW));
    calls.flush().await;
    assert_eq!(kept(&calls), (with_others(&ours[3..]), 3));
}

#[tokio::test]
async fn a_damaged_day_is_set_aside_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls");
    std::fs::create_dir(&path).unwrap();
    for day in ["2026-11-20", "2026-11-19"] {
        std::fs::write(path.join(format!("calls-{day}.sqlite")), [7; 9_000]).unwrap();
    }
    let calls = start(CallOptions::new(&path));
    calls.record(call(1, NOW));
    calls.record(call(2, NOW - 2 * DAY));
    calls.flush().await;
    let status = calls.status();
    assert_eq!(
        (status.set_aside.len(), status.lost_history),
        (1, 0),
        "{status:?}"
    );
    assert_eq!(std::fs::read(&status.set_aside[0].kept_as).unwrap(), [7; 9_000]);
    let reader = CallReader::open(&path).unwrap();
    let found = reader.calls(page(CallFilter::default(), 10)).await.unwrap();
    assert_eq!(
        (found.calls.len(), found.unreadable),
        (2, vec!["2026-11-19".to_owned()])
    );
    let sums = reader.sums(CallFilter::default(), CallGroup::All).await.unwrap();
    assert_eq!(
        (sums.rows[0].calls, sums.unreadable),
        (2, vec!["2026-11-19".to_owned()])
    );
}

#[tokio::test]
async fn a_history_that_cannot_be_written_is_counted_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls");
    std::fs::write(&path, "a file where the folder should be").unwrap();
    let calls = start(CallOptions::new(&path));
    calls.record(call(1, NOW));
    calls.flush().await;
    let status = calls.status();
    assert_eq!(status.lost_history, 1);
    assert!(status.last_error.unwrap().contains("calls"));
    std::fs::remove_file(&path).unwrap();
    calls.record(call(2, NOW));
    calls.flush().await;
    // Someone deletes the file while it is open.
    std::fs::remove_dir_all(&path).unwrap();
    calls.record(call(3, NOW));
    calls.flush().await;
    let found = CallReader::open(&path)
        .unwrap()
        .calls(page(CallFilter::default(), 10))
        .await
        .unwrap();
    assert_eq!(found.calls, [call(3, NOW)]);
    assert_eq!(calls.status().lost_history, 1);
}

#[tokio::test]
async fn bodies_are_kept_only_where_asked_for_and_up_to_their_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls");
    let bodies = |n: u8, length: usize| AuditRecord {
        at_ms: NOW,
        request_id: [n; 16],
        organisation: "default".into(),
        team: "red".into(),
        consumer: "shop".into(),
        user: "ann".into(),
        request: vec![b'q'; length],
        response: vec![b'a'; 3],
    };
    let off = start(CallOptions::new(&path));
    assert!(!off.wants_audit());
    off.audit(bodies(1, 5));
    drop(off);
    let reader = CallReader::open(&path).unwrap();
    assert_eq!(reader.bodies([1; 16], NOW).await.unwrap(), None);
    let on = start(CallOptions {
        audit_bytes_max: Some(10),
        ..CallOptions::new(&path)
    });
    assert!(on.wants_audit());
    on.audit(bodies(2, 5));
    on.audit(bodies(3, 5_000));
    // More than the queue may hold at once.
    on.audit(bodies(4, 32 * 1024 * 1024));
    on.flush().await;
    let whole = reader.bodies([2; 16], NOW).await.unwrap().unwrap();
    assert_eq!(
        (whole.bodies, whole.request_bytes, whole.response_bytes),
        (bodies(2, 5), 5, 3)
    );
    let cut = reader.bodies([3; 16], NOW).await.unwrap().unwrap();
    assert_eq!((cut.bodies, cut.request_bytes), (bodies(3, 10), 5_000));
    assert_eq!(reader.bodies([4; 16], NOW).await.unwrap(), None);
    assert_eq!(reader.bodies([2; 16], NOW - DAY).await.unwrap(), None);
    let status = on.status();
    assert_eq!((status.cut_bodies, status.lost_bodies), (1, 1));
}

#[tokio::test]
async fn two_processes_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let both = [(), ()].map(|()| start(CallOptions::new(folder.path())));
    for n in 0..200 {
        for calls in &both {
            calls.record(call(n, NOW));
        }
    }
    for calls in &both {
        calls.flush().await;
        assert_eq!(calls.status().lost_history, 0, "{:?}", calls.status());
    }
    let reader = CallReader::open(folder.path()).unwrap();
    let sums = reader.sums(CallFilter::default(), CallGroup::All).await.unwrap();
    assert_eq!(sums.rows[0].calls, 400);
}

#[tokio::test]
async fn nothing_recorded_reads_as_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let reader = CallReader::open(&folder.path().join("none")).unwrap();
    assert_eq!(
        reader.calls(page(CallFilter::default(), 0)).await.unwrap(),
        Default::default()
    );
    assert!(
        reader
            .sums(CallFilter::default(), CallGroup::Model)
            .await
            .unwrap()
            .rows
            .is_empty()
    );
}
