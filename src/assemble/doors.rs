//! The daemon's doors: admin over unix socket and TCP, gateway over TCP.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nbs_core::time::Wall;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, AdminState, House, LocalHands, TcpAccess, UnixAccess};
use crate::assemble::Failure;
use crate::assemble::kept::{self, Shelf};
use crate::assemble::sources::{RecipeBook, Usage};
use crate::config::{Config, Role};
use crate::console;
use crate::entry::EntryHandle;
use crate::gateway::{self, Gateway};
use crate::ports::{Clock, LogReader, News};
use crate::wire::spec::SpecDefaults;

/// Sockets, bound and not yet served.
pub(super) struct Listeners {
    unix: StdUnixListener,
    admin: Option<std::net::TcpListener>,
    gateway: Option<std::net::TcpListener>,
    /// They outlive this daemon.
    kept: bool,
}

/// What the doors lead to.
pub(super) struct Rooms {
    pub(super) entry: EntryHandle,
    /// On a worker of an entry elsewhere: what takes local words.
    pub(super) local: Option<Arc<dyn LocalHands>>,
    /// What apps of this host wrote.
    pub(super) logs: Arc<dyn LogReader>,
    pub(super) recipes: Arc<RecipeBook>,
    pub(super) usage: Usage,
    pub(super) hops: gateway::Hops,
    pub(super) news: Option<mpsc::Sender<News>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ready: Arc<AtomicBool>,
}

/// The open doors.
pub(super) struct Doors {
    tasks: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    drain: Duration,
    socket: PathBuf,
    gateway: Option<SocketAddr>,
    kept: bool,
}

impl Listeners {
    /// Takes over or binds every address of the configuration.
    pub(super) fn bind(config: &Config) -> Result<Self, Failure> {
        let mut shelf = Shelf::take();
        let unix = shelf.unix(&config.admin.socket);
        let admin = config.admin.listen.and_then(|address| shelf.tcp(kept::ADMIN_TCP, address));
        let gateway = config.gateway.listen.and_then(|address| shelf.tcp(kept::GATEWAY, address));
        shelf.clear_out();
        let unix = match unix {
            Some(listener) => listener,
            None => {
                let listener = bind_unix(&config.admin.socket)?;
                shelf.keep_unix(&config.admin.socket, &listener);
                listener
            }
        };
        let admin = tcp(&mut shelf, kept::ADMIN_TCP, "admin.listen", config.admin.listen, admin)?;
        let gateway = tcp(&mut shelf, kept::GATEWAY, "gateway.listen", config.gateway.listen, gateway)?;
        for (name, listener) in [("admin.addr", &admin), ("gateway.addr", &gateway)] {
            let file = config.runtime_dir.join(name);
            match listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
                None => _ = fs::remove_file(&file),
                Some(address) => fs::write(&file, format!("{address}\n"))
                    .map_err(|error| Failure::new(format!("cannot write {}: {error}", file.display())))?,
            }
        }
        Ok(Self { unix, admin, gateway, kept: shelf.works() })
    }
}

/// The listener that was kept, or a fresh one that is kept from now on.
fn tcp(
    shelf: &mut Shelf,
    name: &str,
    key: &str,
    address: Option<SocketAddr>,
    kept: Option<std::net::TcpListener>,
) -> Result<Option<std::net::TcpListener>, Failure> {
    let Some(address) = address.filter(|_| kept.is_none()) else { return Ok(kept) };
    let listener = bind_tcp(key, address)?;
    shelf.keep(name, &listener);
    Ok(Some(listener))
}

/// The daemon holds the lock of its state directory, so a socket file that is there is a former daemon's.
fn bind_unix(path: &Path) -> Result<StdUnixListener, Failure> {
    let failed = |error: io::Error| Failure::new(format!("cannot listen on admin.socket {}: {error}", path.display()));
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Failure::new(format!(
            "cannot listen on admin.socket {}: another daemon answers there; configure another runtime_dir",
            path.display()
        )));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = StdUnixListener::bind(path).map_err(failed)?;
    // Anyone may connect and is then judged by uid and group; a mode could not tell a good error.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn bind_tcp(key: &str, address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or set another address (port 0 picks a free one)",
            io::ErrorKind::PermissionDenied => "use a port above 1023",
            _ => "set an address of this host",
        };
        Failure::new(format!("cannot listen on {key} = \"{address}\": {error}; {remedy}"))
    };
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

impl Doors {
    /// Opens them. `stop` begins their closing.
    pub(super) fn open(
        config: &Config,
        listeners: Listeners,
        rooms: Rooms,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(format!("cannot serve a listener: {error}"));
        let admin_address = listeners.admin.as_ref().and_then(|listener| listener.local_addr().ok());
        let gateway_address = listeners.gateway.as_ref().and_then(|listener| listener.local_addr().ok());
        let options = gateway_options(config, listeners.kept);
        let gateway = Gateway::in_fleet(rooms.entry.clone(), options, rooms.hops.clone());
        let reach = rooms.news.clone().map(|news| gateway.clone().watch_proxies(news, stop.clone()));
        let kept = listeners.kept;
        let admin = Admin::new(admin_state(config, rooms, admin_address, gateway_address, stop.clone()));
        let unix = UnixListener::from_std(listeners.unix).map_err(failed)?;
        let access = UnixAccess { own_uid: nix::unistd::geteuid().as_raw() };
        let house = House { router: admin.router().merge(console::router(admin)), stop: stop.clone() };
        let mut tasks = vec![tokio::spawn(admin::serve_unix(house.clone(), unix, access))];
        if let Some(listener) = listeners.admin {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            tasks.push(tokio::spawn(admin::serve_tcp(house, listener, TcpAccess { names: Vec::new() })));
        }
        if let Some(listener) = listeners.gateway {
            let listener = TcpListener::from_std(listener).map_err(failed)?;
            let stop = stop.clone();
            tasks.push(tokio::spawn(async move {
                let drained = gateway.serve(listener, stop).await;
                tracing::debug!(?drained, "the gateway is closed");
            }));
        }
        tasks.extend(reach.map(tokio::spawn));
        let (drain, socket) = (config.gateway.drain_timeout, config.admin.socket.clone());
        Ok(Self { tasks, stop, drain, socket, gateway: gateway_address, kept })
    }

    /// Where the daemon is reached, for one line of the log.
    pub(super) fn summary(&self) -> String {
        let gateway = self.gateway.map_or_else(|| "off".to_string(), |address| format!("http://{address}"));
        format!("gateway {gateway}; admin {}", self.socket.display())
    }

    /// Where visitors come in.
    pub(super) fn gateway_url(&self) -> Option<String> {
        self.gateway.map(|address| format!("http://{address}"))
    }

    /// Closes them: running requests may end, for as long as the gateway may drain.
    pub(super) async fn close(self) {
        self.stop.cancel();
        let all = async {
            for task in self.tasks {
                let _ = task.await;
            }
        };
        let limit = self.drain + Duration::from_secs(2);
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("some connections were cut off at the end");
        }
        if !self.kept {
            let _ = fs::remove_file(&self.socket);
        }
    }
}

fn gateway_options(config: &Config, listener_is_kept: bool) -> gateway::Options {
    let settings = &config.gateway;
    gateway::Options {
        hold_timeout: settings.hold_timeout,
        trusted_proxies: settings.trusted_proxies.clone(),
        drain_timeout: settings.drain_timeout,
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout.unwrap_or(Duration::MAX),
        bots: settings.bots.clone(),
        listener_is_kept,
        ..gateway::Options::default()
    }
}

fn admin_state(
    config: &Config,
    rooms: Rooms,
    admin: Option<SocketAddr>,
    gateway: Option<SocketAddr>,
    stop: CancellationToken,
) -> AdminState {
    let clock = rooms.clock.clone();
    AdminState {
        entry: rooms.entry,
        local: rooms.local,
        logs: rooms.logs,
        usage: Arc::new(rooms.usage),
        runtimes: rooms.recipes,
        // Where apps may be anywhere, a new one has to say where.
        defaults: SpecDefaults {
            environments: (config.role == Role::Standalone).then(|| [config.environment.name.clone()].into()),
        },
        about: admin::About {
            version: env!("CARGO_PKG_VERSION").to_string(),
            mode: config.mode.as_str().to_string(),
            started_at: Wall(clock.now().wall.0),
            admin_socket: Some(config.admin.socket.display().to_string()),
            admin_listen: admin.map(|address| address.to_string()),
            gateway_url: gateway.map(|address| format!("http://{address}")),
        },
        now: Arc::new(move || clock.now()),
        ready: rooms.ready,
        stop,
    }
}
