//! Attacks on the jail of `exeat run`: what a program, or another user of the machine, does to have
//! the next program run without a jail, or to reach what is outside from within.
//!
//! Skipped by name where the kernel lets nobody make user namespaces.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

use super::{
    jailed::{Jail, User, users},
    *,
};

/// Without `--jail`, which is then `auto`.
fn by_default(jail: &Jail, program: &[&str]) -> Command {
    let mut command = jail.bare(&jail.exeat);
    command.args(["run", "--preset", "agent", "--"]).args(program);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_way_is_no_reason_to_do_without_a_jail() {
    for user in users() {
        let Some(jail) = Jail::set(user).await else { return };
        // A descriptor that leads out, and a working directory that is hidden.
        let mut leaked = jail.bare(Path::new("sh"));
        let exeat = jail.exeat.display();
        leaked.args(["-c", &format!("exec '{exeat}' run --preset agent -- echo ran 7< /tmp")]);
        let finished = run(leaked).await;
        assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{user:?}");
        assert!(finished.stderr.contains("descriptor 7 is open"), "{}", finished.stderr);
        assert!(!finished.stderr.contains("NOT JAILED"), "{}", finished.stderr);
        if let Ok(below) = tempfile::tempdir_in("/run") {
            fs::set_permissions(below.path(), Permissions::from_mode(0o755)).unwrap();
            let mut command = by_default(&jail, &["echo", "ran"]);
            command.current_dir(below.path());
            let finished = run(command).await;
            assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{user:?}");
            assert!(finished.stderr.contains("it is hidden in the jail"), "{}", finished.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_are_all_in_use_are_no_reason_either() {
    let Some(jail) = Jail::set(User::Own).await else { return };
    let root = ["unshare", "--user", "--map-root-user"];
    if !works(&[&root[..], &["true"]].concat()).await {
        skip("unshare makes no user namespace");
        return;
    }
    // There may be one below the first, and it is there.
    let mut command = jail.bare(Path::new(root[0]));
    command.args(&root[1..]).args(["sh", "-c"]).arg(format!(
        "echo 1 > /proc/sys/user/max_user_namespaces && exec {} '{}' run --preset agent -- echo ran",
        root.join(" "),
        jail.exeat.display()
    ));
    let finished = run(command).await;
    assert_eq!((finished.code, finished.text().as_str()), (Some(69), ""), "{}", finished.stderr);
    assert!(finished.stderr.contains("no jail, cannot make namespaces"), "{}", finished.stderr);
}
