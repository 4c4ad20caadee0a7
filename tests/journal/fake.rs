//! What the real program will not do on request.

use nbsupervisor::journal::FOLLOWERS_MAX;
use nbsupervisor::ports::{LastLines, LogError, LogQuery, LogReader};

use crate::bench::{Bench, DEADLINE, after, app, life, next, next_few};

/// `say NUMBER`: an entry of the app.
const SAY: &str = r#"
say() {
  printf '{"__CURSOR":"s=%s","__REALTIME_TIMESTAMP":"1795408423%06d","_SYSTEMD_UNIT":"nbs-app-crm.service","MESSAGE":"line %s"}\n' $1 $1 $1
}
"#;

fn cause(error: LogError) -> String {
    match error {
        LogError::Failed { cause, .. } => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn garbage_is_passed_over() {
    let bench = Bench::fake(&format!("{SAY} say 2; echo nonsense; printf '\\377\\000{{\\n'; say 1; printf '{{\"half'"));
    assert_eq!(bench.texts(&LogQuery::last(9)).await, ["line 1", "line 2"]);
}

#[tokio::test]
async fn why_there_is_no_answer_is_said_with_the_remedy() {
    for (script, expected) in [
        ("echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1", "group systemd-journal"),
        ("echo 'Hint: You are currently not seeing messages from other users and the system.' >&2", "systemd-journal"),
        ("echo 'Failed to open files: Bad message' >&2; exit 1", "exit status: 1: Failed to open files: Bad message"),
        ("kill -9 $$", "signal: 9"),
    ] {
        let bench = Bench::fake(script);
        let cause = cause(bench.journal().tail(&app("crm"), &LogQuery::last(9)).await.unwrap_err());
        assert!(cause.contains(expected), "{cause}");
    }
    let missing = Bench::at("/nowhere/journalctl").journal();
    let error = missing.follow(&app("crm"), &LogQuery::last(9)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the log of crm cannot be read: /nowhere/journalctl is not installed: install systemd, or run apps without units"
    );
    assert!(missing.last_lines(&life("nbs-app-crm.service", "a1", None), 9).await.is_empty());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for_for_ever() {
    let bench = Bench::fake("echo $$ > $here/pid; exec sleep 600");
    let journal = bench.journal();
    let cause = cause(journal.tail(&app("crm"), &LogQuery::last(9)).await.unwrap_err());
    assert!(cause.starts_with("journalctl did not answer within 10 s"), "{cause}");
    bench.gone("pid").await;
    assert!(journal.last_lines(&life("nbs-app-crm.service", "a1", None), 9).await.is_empty());
}

#[tokio::test]
async fn a_follower_survives_the_death_of_its_child() {
    // The first child says two lines and dies within the third; the next ones are asked to go on from line 2.
    let script = format!(
        r#"{SAY}
        case "$*" in
          *--follow*--cursor=s=2*) say 2; say 3; say 4; exec sleep 600 ;;
          *--follow*) say 1; say 2; printf '{{"__CURSOR":"s=3",'; kill -9 $$ ;;
        esac"#
    );
    let bench = Bench::fake(&script);
    let mut lines = bench.follow(&LogQuery::last(9)).await;
    assert_eq!(next_few(&mut lines, 4).await, ["line 1", "line 2", "line 3", "line 4"]);
}

#[tokio::test]
async fn a_follower_says_once_that_the_journal_cannot_be_read_and_goes_on() {
    let script = format!(
        r#"{SAY}
        case "$*" in
          *--reverse*) say 1; exit ;;
        esac
        echo x >> $here/tries
        [ $(wc -l < $here/tries) -gt 4 ] || {{ echo 'Failed to open journal: Too many open files' >&2; exit 1; }}
        say 1; say 2; exec sleep 600"#
    );
    let bench = Bench::fake(&script);
    let mut lines = bench.follow(&LogQuery::last(9)).await;
    assert_eq!(next(&mut lines).await, "line 1");
    let told = next(&mut lines).await;
    assert!(told.starts_with("… the journal cannot be read, trying again: ") && told.contains("Too many open files"));
    assert_eq!(next(&mut lines).await, "line 2");
}

#[tokio::test]
async fn a_follower_that_leaves_takes_its_child_along() {
    let script = format!("{SAY}case \"$*\" in *--follow*) echo $$ > $here/pid; say 1; exec sleep 600 ;; esac");
    let bench = Bench::fake(&script);
    let mut lines = bench.follow(&LogQuery::last(9)).await;
    assert_eq!(next(&mut lines).await, "line 1");
    drop(lines);
    bench.gone("pid").await;
}

#[tokio::test]
async fn a_reader_that_stands_still_is_told_what_it_missed() {
    let script = format!(
        "{SAY}case \"$*\" in *--follow*) i=0; while [ $i -lt 3000 ]; do i=$((i+1)); say $i; done; touch $here/said; \
         exec sleep 600 ;; esac"
    );
    let bench = Bench::fake(&script);
    let mut lines = bench.follow(&LogQuery::last(9)).await;
    bench.there("said").await;
    let mut seen: u64 = 0;
    let dropped = loop {
        let line = next(&mut lines).await;
        match line.strip_prefix("… ").and_then(|rest| rest.split_once(" lines were dropped")) {
            Some((count, _)) => break count.parse::<u64>().unwrap(),
            None => seen += 1,
        }
    };
    assert!(seen >= 256, "{seen}");
    // What is not in the count is still to come.
    let rest = 3000 - seen - dropped;
    let rest = next_few(&mut lines, usize::try_from(rest).unwrap()).await;
    assert!(rest.is_empty() || rest.last().is_some_and(|line| line == "line 3000"), "{:?}", rest.last());
}

#[tokio::test]
async fn only_so_many_may_follow() {
    let bench = Bench::fake("case \"$*\" in *--follow*) exec sleep 600 ;; esac");
    let journal = bench.journal();
    let mut all = Vec::new();
    for _ in 0..FOLLOWERS_MAX {
        all.push(journal.follow(&app("crm"), &LogQuery::last(1)).await.unwrap());
    }
    let error = journal.follow(&app("crm"), &LogQuery::last(1)).await.unwrap_err();
    assert_eq!(error, LogError::TooMany { app: app("crm"), limit: FOLLOWERS_MAX });
    drop(all.pop());
    let again = async {
        while journal.follow(&app("crm"), &LogQuery::last(1)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("a place in time");
}

#[tokio::test]
async fn a_cursor_never_becomes_an_option() {
    let bench = Bench::fake("echo \"$*\" >> $here/asked");
    let refused = bench.journal().tail(&app("crm"), &after("s=1 --file=/etc/shadow", 1)).await;
    assert!(matches!(refused, Err(LogError::BadCursor { .. })));
    assert!(!bench.path("asked").exists(), "nothing was run");
}

#[tokio::test]
async fn last_lines_are_asked_again_until_two_answers_agree() {
    // Nobody but root may have the journal written; the line appears at the third look.
    let script = format!(
        r#"{SAY}
        case "$*" in *--sync*) exit 1 ;; esac
        echo x >> $here/looks
        [ $(wc -l < $here/looks) -lt 3 ] || say 1 | sed 's/"MESSAGE"/"_SYSTEMD_INVOCATION_ID":"a1",&/'"#
    );
    let bench = Bench::fake(&script);
    let journal = bench.own_journal();
    assert_eq!(journal.last_lines(&life("nbs-app-crm.service", "a1", None), 9).await, ["line 1"]);
}
