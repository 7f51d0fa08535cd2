//! **exeat** (Latin: "let him go out") stands between programs and the network and gives or refuses
//! leave, connection by connection, by the organisation's managed `requirements.toml`.
//!
//! # The life of a request
//!
//! ```text
//! bytes ─► Authority ─► Policy::decide ─► Permit ─► DNS ─► Policy::vet ─► VettedAddress ─► dial ─► tunnel | forward ─► audit
//!                            └─► Refusal ◄──────────────────────┴────────────────────────────┘   (one total match: Refusal → answer)
//! ```
//!
//! # The map
//!
//! | module | what | pure |
//! |---|---|---|
//! | [`net`] | the words of the network, parsed once | yes |
//! | [`http1`] | heads and bodies of HTTP/1, read strictly | yes |
//! | [`socks5`] | what a client of SOCKS5 says before its tunnel | yes |
//! | [`policy`] | `requirements.toml` to rules to decisions; permits | yes |
//! | [`requirements`] | several documents, the one that applies | yes |
//! | [`settings`] | flags, environment and `exeat.toml` to one value | |
//! | [`observe`] | audit records, counters, the log | |
//! | [`source`] | where policy bytes come from; watched for changes | |
//! | [`dns`] | names to addresses, kept for their TTL | |
//! | [`tls`] | what a TLS client says in the clear | |
//! | [`confine`] | giving up what a running proxy does not need | |
//! | [`upstream`] | vetting addresses, dialling, the parent proxy, the origin pool | |
//! | [`proxy`] | the data path: listener to tunnel | |
//! | [`jail`] | what `exeat run` gives to a program, and what it keeps from it | |
//! | [`app`] | composition: settings to a running proxy | |
//! | [`cli`] | one file a subcommand | |
//!
//! Arrows run one way, each module importing only what stands above it; `tests/layers.rs` keeps it
//! so. Foreign crates have a home each: clap in `cli`, hickory in `dns`, psl and idna behind
//! `policy` and `net`, landlock and seccompiler in `confine`, nix in `jail`, globset in
//! `cli::bench`. Some have two: toml (`policy::document` with `policy::lift`, `settings::file`),
//! rustix (`confine`, `jail`, `source::trust`, `proxy`) and regex-automata (`policy::automaton`, and
//! `cli::bench` to compare with).
//! `unsafe` is denied but in two places: `confine::trap`, for the result of a refused system call,
//! and `net::block`, for SSE2.
//!
//! # Invariants
//!
//! 1. `net`, `http1`, `socks5`, `policy` and `requirements` are pure: functions of values. No
//!    sockets, files, clock, environment, threads or logging.
//! 2. **No permit, no socket.** The dialer takes a [`policy::Permit`] and
//!    [`policy::VettedAddress`]es, or what is [`policy::Entrusted`] to a parent proxy, or a
//!    [`policy::SocketPermit`] for the very unix socket that was judged; only `policy` can make any
//!    of them. CONNECT, absolute-form, a second request on a kept connection, SOCKS5, a connection
//!    that was redirected or captured in a jail, `exeat check`, `exeat diff` and `exeat bench` all go
//!    through [`policy::Policy::decide`]. One that only observes gives a permit where no rule speaks
//!    about a host, and the permit says so.
//! 3. Host text is parsed once, in `net`. That value is matched, resolved, dialled, compared with
//!    what a client says first in a tunnel, and logged; text that does not parse is refused, never
//!    repaired.
//! 4. A name is resolved once, after it is allowed and never before; every address is vetted; the
//!    vetted address is dialled.
//! 5. A policy that cannot be compiled never replaces one that could; at the start it stops the
//!    program.
//! 6. Each request sees one policy. Open tunnels and requests under way are judged again when the
//!    policy changes.
//! 7. Every read has a deadline, every queue and table a bound, every task an owner that waits.
//!
//! # The main path, in ten files
//!
//! `main.rs` → `cli/serve.rs` → `app/open.rs` → `proxy/listener.rs` → `proxy/connection.rs` →
//! `proxy/connect.rs` → `proxy/admit.rs` → `policy/evaluate.rs` → `upstream/dial.rs` →
//! `proxy/tunnel.rs`. Beside it: `proxy/workers.rs`, the threads, and `proxy/pump.rs`, the bytes. A
//! plain request goes from `proxy/connection.rs` by `proxy/forward.rs` to `proxy/exchange.rs`.

pub mod app;
pub mod cli;
pub mod confine;
pub mod dns;
pub mod http1;
pub mod jail;
pub mod net;
pub mod observe;
pub mod policy;
pub mod proxy;
pub mod requirements;
pub mod settings;
pub mod socks5;
pub mod source;
pub mod tls;
pub mod upstream;
