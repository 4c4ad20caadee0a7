//! Starting: what an app gets, and what a failed start says.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nbs_core::launch::{Address, Launch};
use nbs_core::observation::SpawnFailureKind;
use nbs_core::quantity::ByteSize;
use nbs_core::reason::{ExitOutcome, ReasonCode};
use nbs_core::recipe::Listen;
use nbs_core::signal::Signal;
use nbsupervisor::ports::ProcessControl;

use crate::bench::{Bench, alive, app, eventually, is_root, run};

#[tokio::test]
async fn exit_status_signal_and_last_lines_are_told() {
    let mut bench = Bench::new();
    bench.start(&bench.shell("a", "echo one; echo two >&2; exit 7")).await.unwrap();
    assert_eq!(bench.exit("a", run(1)).await, (ExitOutcome::Code(7), vec!["one".into(), "two".into()], false));

    let again = Launch { run: run(2), ..bench.shell("a", "echo three; kill -SEGV $$") };
    bench.start(&again).await.unwrap();
    assert_eq!(bench.exit("a", run(2)).await, (ExitOutcome::Signal(11), vec!["three".into()], false));
}

#[tokio::test]
async fn the_environment_is_exactly_the_launch_and_our_four_variables() {
    let mut bench = Bench::new();
    let mut launch = bench.launch("a", &["env"]);
    launch.env.insert("SECRET".into(), "s3cret=x y".into());
    launch.notify = true;
    bench.start(&launch).await.unwrap();
    bench.exit("a", run(1)).await;
    let log = bench.log("a");
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    let mark = format!("NBSUPERVISOR_MARK={}/a/1.0", bench.options.instance_id);
    let socket = format!("NOTIFY_SOCKET={}", launch.run_dir.join("notify.sock").display());
    let path = "PATH=/usr/local/bin:/usr/bin:/bin";
    assert_eq!(lines, [&mark, "NBS_APP=a", "NBS_RUN=1.0", &socket, path, "SECRET=s3cret=x y"]);
}

#[tokio::test]
async fn a_process_leads_its_group_and_has_no_input_and_no_stray_descriptors() {
    let mut bench = Bench::new();
    let script = "readlink /proc/self/fd/0; ls /proc/self/fd | wc -l; umask; cut -d' ' -f5 /proc/$$/stat; echo $$";
    let started = bench.start(&bench.shell("a", script)).await.unwrap();
    bench.exit("a", run(1)).await;
    let pid = started.identity.pid.to_string();
    // 0, 1, 2 and the directory that ls itself reads.
    assert_eq!(bench.log("a").lines().collect::<Vec<_>>(), ["/dev/null", "4", "0022", &pid, &pid]);
    assert_eq!(std::fs::metadata(bench.options.log_dir.join("a.log")).unwrap().mode() & 0o777, 0o640);
    assert_eq!(std::fs::metadata(bench.options.state_root.join("a")).unwrap().mode() & 0o777, 0o750);
}

#[tokio::test]
async fn limits_that_cannot_be_enforced_are_said() {
    let bench = Bench::new();
    let mut launch = bench.shell("a", "exec sleep 60");
    launch.limits.memory_max = Some(ByteSize(1 << 20));
    launch.limits.tasks_max = Some(5);
    let notes = bench.start(&launch).await.unwrap().notes;
    assert_eq!(notes[0], "limits.memory_max is not enforced: the process adapter has no cgroup here");
    assert!(notes[1].starts_with("limits.tasks_max is not enforced"), "{notes:?}");
    assert_eq!(notes.iter().any(|note| note.contains("root")), is_root());
}

#[tokio::test]
async fn a_signal_goes_to_the_main_process_only() {
    let mut bench = Bench::new();
    let script = "trap 'exit 9' USR1; (trap 'echo child got it' USR1; echo ready; while :; do sleep 0.01; done) & while :; do wait; done";
    bench.start(&bench.shell("a", script)).await.unwrap();
    bench.logged("a", "ready").await;
    bench.processes().signal(&app("a"), run(1), Signal::parse("USR1").unwrap()).await;
    let (outcome, last_log, leftovers) = bench.exit("a", run(1)).await;
    assert_eq!((outcome, leftovers), (ExitOutcome::Code(9), true));
    assert_eq!(last_log, ["ready"]);
    bench.processes().signal(&app("a"), run(1), Signal::TERM).await;
    bench.processes().signal(&app("nobody"), run(1), Signal::TERM).await;
}

async fn refused(bench: &Bench, launch: &Launch) -> (ReasonCode, SpawnFailureKind, String) {
    let failure = bench.start(launch).await.unwrap_err();
    (failure.reason.code, failure.kind, failure.reason.text)
}

/// The same failures, whichever way the process is started.
async fn refusals(change: impl Fn(&mut Launch)) {
    let bench = Bench::new();
    let changed = |mut launch: Launch| {
        change(&mut launch);
        launch
    };
    let file = |name: &str, content: &str, mode: u32| {
        let path = bench.dir.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(content.as_bytes()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_string()
    };
    let cases = [
        ("/no/such/program".to_string(), ReasonCode::MissingBinary, "/no/such/program does not exist"),
        ("no-such-program".to_string(), ReasonCode::MissingBinary, "there is no no-such-program in /usr/local/bin"),
        (file("plain", "#!/bin/sh\n", 0o644), ReasonCode::NotExecutable, "may not be executed"),
        (file("script", "#!/no/interpreter -x\n", 0o755), ReasonCode::NotExecutable, "needs /no/interpreter"),
        (file("noise", "neither this nor that", 0o755), ReasonCode::NotExecutable, "neither a program"),
    ];
    for (program, code, text) in cases {
        let (found, kind, said) = refused(&bench, &changed(bench.launch("a", &[&program]))).await;
        assert_eq!((found, kind), (code, SpawnFailureKind::Permanent), "{said}");
        assert!(said.contains(text), "{said}");
    }
    for (cwd, text) in [("/no/such/directory", "does not exist"), ("/etc/passwd", "is not a directory")] {
        let launch = changed(Launch { cwd: cwd.into(), ..bench.shell("a", "true") });
        let (code, _, said) = refused(&bench, &launch).await;
        assert_eq!(code, ReasonCode::BadWorkingDirectory, "{said}");
        assert!(said.contains(cwd) && said.contains(text), "{said}");
    }
    let (code, ..) = refused(&bench, &changed(bench.shell("a", "zero\0byte"))).await;
    assert_eq!(code, ReasonCode::BadRecipe);
    assert!(bench.marked("").is_empty(), "a failed start leaves a process");
}

#[tokio::test]
async fn a_plain_start_that_fails_says_why() {
    refusals(|_| {}).await;
}

#[tokio::test]
async fn a_start_through_the_shim_fails_with_the_same_words() {
    if is_root() {
        refusals(|launch| launch.user = Some("nobody".into())).await;
    }
}

#[tokio::test]
async fn an_unknown_user_is_refused_by_name() {
    let bench = Bench::new();
    let launch = Launch { user: Some("no-such-user".into()), ..bench.shell("a", "true") };
    let (code, kind, text) = refused(&bench, &launch).await;
    assert_eq!((code, kind), (ReasonCode::BadUser, SpawnFailureKind::Permanent));
    assert_eq!(text, "there is no user \"no-such-user\"");
    let launch = Launch { group: Some("no-such-group".into()), ..bench.shell("a", "true") };
    assert_eq!(refused(&bench, &launch).await.0, ReasonCode::BadUser);
}

#[tokio::test]
async fn another_user_is_taken_with_groups_directories_and_no_way_back() {
    if !is_root() {
        return;
    }
    let mut bench = Bench::new();
    let script = "id -u; id -g; id -G; umask; echo $HIDDEN; grep NoNewPrivs /proc/self/status; touch here; \
                  readlink /proc/self/fd/0; grep -o 'SigIgn.*' /proc/self/status | tail -c 8; ls /proc/self/fd | wc -l; exit 3";
    let mut launch = Launch { user: Some("nobody".into()), ..bench.shell("a", script) };
    launch.env.insert("HIDDEN".into(), "a\nb".into());
    bench.start(&launch).await.unwrap();
    assert_eq!(bench.exit("a", run(1)).await.0, ExitOutcome::Code(3));
    let wanted = "65534\n65534\n65534\n0022\na b\nNoNewPrivs:\t1\n/dev/null\n0000000\n4\n";
    assert_eq!(bench.log("a"), wanted);
    for directory in [&launch.state_dir, &launch.run_dir] {
        let found = std::fs::metadata(directory).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (65534, 0o750));
    }
    assert!(launch.state_dir.join("here").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_in_no_command_line() {
    let bench = Bench::new();
    let user = is_root().then(|| "nobody".to_string());
    let secret = format!("hush-{}", bench.options.instance_id);
    let seen = std::sync::atomic::AtomicBool::new(false);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                    let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let found = line.windows(secret.len()).any(|part| part == secret.as_bytes());
                    seen.fetch_or(found, std::sync::atomic::Ordering::Relaxed);
                }
            }
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for life in 1..40 {
                    let mut launch = Launch { user: user.clone(), run: run(life), ..bench.shell("a", "sleep 0.01") };
                    launch.env.insert("SECRET".into(), secret.clone());
                    bench.start(&launch).await.unwrap();
                }
            });
        });
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!seen.into_inner());
}

#[tokio::test]
async fn a_port_that_somebody_listens_on_is_busy() {
    let bench = Bench::new();
    for any in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        let taken = TcpListener::bind(any).unwrap();
        let port = taken.local_addr().unwrap().port();
        for listen in [Listen::Port, Listen::Fd] {
            let launch = Launch { listen, address: Some(Address::Port(port)), ..bench.shell("a", "true") };
            let (code, kind, text) = refused(&bench, &launch).await;
            assert_eq!((code, kind), (ReasonCode::PortInUse, SpawnFailureKind::PortBusy), "{any} {listen:?}");
            assert!(text.contains(&port.to_string()), "{text}");
        }
    }
}

#[tokio::test]
async fn a_listening_socket_is_handed_over_as_descriptor_3() {
    let mut bench = Bench::new();
    let script = "readlink /proc/$$/fd/3; echo $LISTEN_FDS $((LISTEN_PID - $$)); exec sleep 60";
    let (port, started) = loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let launch = Launch { listen: Listen::Fd, address: Some(Address::Port(port)), ..bench.shell("a", script) };
        match bench.start(&launch).await {
            Ok(started) => break (port, started),
            // Somebody else was given it meanwhile.
            Err(failure) => assert_eq!(failure.kind, SpawnFailureKind::PortBusy),
        }
    };
    // It listens from the start on, whatever the app does.
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let log = bench.logged("a", "1 0").await;
    assert!(log.starts_with("socket:["), "{log}");
    assert!(alive(started.identity.pid).is_some());
    bench.processes().kill_tree(&app("a"), run(1)).await;
    bench.tree_gone("a", run(1)).await;
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "the daemon kept the listener");
}

#[tokio::test]
async fn a_stale_socket_is_taken_away_and_a_served_one_is_not() {
    let bench = Bench::new();
    let mut launch = bench.shell("a", "ls $NBS_SOCK || echo none; sleep 60");
    let path = launch.run_dir.join("app.sock");
    (launch.listen, launch.address) = (Listen::Unix, Some(Address::Unix(path.clone())));
    std::fs::create_dir_all(&launch.run_dir).unwrap();
    let served = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (code, kind, _) = refused(&bench, &launch).await;
    assert_eq!((code, kind), (ReasonCode::PortInUse, SpawnFailureKind::Transient));
    assert!(path.exists());
    drop(served);
    bench.start(&launch).await.unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    let (code, ..) = refused(&bench, &Launch { run: run(2), ..launch }).await;
    assert_eq!((code, std::fs::read(&path).unwrap()), (ReasonCode::SpawnFailed, b"precious".to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_start_and_stop_at_once() {
    let mut bench = Bench::new();
    let launches: Vec<Launch> = (0..300).map(|n| bench.launch(&format!("a{n}"), &["/bin/sleep", "600"])).collect();
    let begun = std::time::Instant::now();
    let mut starting = Vec::new();
    for launch in &launches {
        starting.push(bench.processes().start(launch));
    }
    let mut pids = Vec::new();
    for start in join(starting).await {
        pids.push(start.unwrap().identity.pid);
    }
    println!("started 300 in {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    join(launches.iter().map(|launch| bench.processes().kill_tree(&launch.app, launch.run)).collect()).await;
    for launch in &launches {
        bench.tree_gone(launch.app.as_str(), launch.run).await;
    }
    println!("stopped 300 in {:?}", begun.elapsed());
    assert!(pids.iter().all(|pid| alive(*pid).is_none()));
}

/// Waits for many futures at once.
async fn join<T>(futures: Vec<nbsupervisor::ports::BoxFuture<'_, T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Some(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, value) in &mut futures {
            if let Some(pending) = future
                && let std::task::Poll::Ready(ready) = pending.as_mut().poll(context)
            {
                (*future, *value) = (None, Some(ready));
            }
        }
        match futures.iter().all(|(_, value)| value.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, value)| value).collect()
}

#[tokio::test]
async fn cleaning_up_keeps_the_data_unless_asked() {
    let mut bench = Bench::new();
    let launch = bench.shell("a", "touch data");
    bench.start(&launch).await.unwrap();
    bench.exit("a", run(1)).await;
    bench.processes().clean_up(&app("a"), false).await.unwrap();
    assert!(!launch.run_dir.exists() && launch.state_dir.join("data").exists());
    assert!(!bench.options.log_dir.join("a.log").exists());
    bench.processes().clean_up(&app("a"), true).await.unwrap();
    assert!(!launch.state_dir.exists());
    bench.processes().clean_up(&app("a"), true).await.unwrap();
    eventually(|| bench.marked("").is_empty().then_some(())).await;
}
