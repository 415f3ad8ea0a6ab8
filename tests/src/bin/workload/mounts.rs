//! Mounts, moves and unmounts, in a mount namespace that the caller must have made.

use std::fs;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags, fsconfig_create, fsmount, fsopen, mount, mount_bind, mount_change, mount_move,
    mount_remount, move_mount, unmount,
};
use rustix::process::chdir;
use serde_json::{Value, json};

use crate::Report;

pub(crate) fn run(arguments: &[String]) -> Report {
    let [dir] = arguments else { return Err("mounts DIR".into()) };
    let home = format!("{dir}/mounts");
    fs::create_dir_all(&home)?;
    chdir(&*home)?;
    for name in ["a", "b\nc", "d", "e"] {
        fs::create_dir_all(name)?;
    }
    let at = |name: &str| format!("{home}/{name}");
    let mut done: Vec<Value> = Vec::new();
    let mut add = |kind: &str, operation: &str, target: String, more: Value| {
        let mut entry = json!({"kind": kind, "operation": operation, "target": target});
        if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
            entry.extend(more);
        }
        done.push(entry);
    };

    mount("some-name", "a", "tmpfs", MountFlags::NOSUID, None)?;
    let known = json!({"source": "some-name", "type": "tmpfs", "flags": MountFlags::NOSUID.bits()});
    add("mount.mount", "mount", at("a"), known);
    mount_change("a", MountPropagationFlags::PRIVATE)?;
    let known = json!({"flags": MountPropagationFlags::PRIVATE.bits()});
    add("mount.mount", "propagation", at("a"), known);
    mount_bind("a", "b\nc")?;
    add("mount.mount", "bind", at("b\nc"), json!({"source": at("a")}));
    mount_remount("a", MountFlags::RDONLY, "")?;
    add("mount.mount", "remount", at("a"), json!({}));
    mount_move("a", at("d"))?;
    add("mount.move", "move", at("d"), json!({"source": at("a")}));
    let context = fsopen("tmpfs", FsOpenFlags::empty())?;
    fsconfig_create(&context)?;
    let made = fsmount(&context, FsMountFlags::empty(), MountAttrFlags::empty())?;
    move_mount(&made, "", CWD, "e", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let known = json!({"type": "tmpfs", "flags": MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.bits()});
    add("mount.mount", "attach", at("e"), known);
    for name in ["e", "d", "b\nc"] {
        unmount(name, UnmountFlags::DETACH)?;
        add("mount.umount", "unmount", at(name), json!({"flags": UnmountFlags::DETACH.bits()}));
    }
    assert_eq!(unmount("a", UnmountFlags::empty()), Err(Errno::INVAL), "nothing is left there");
    add("mount.umount", "unmount", at("a"), json!({"error": [22, "EINVAL"]}));
    let refused = mount("x", "a", "no-such-type", MountFlags::empty(), None);
    assert_eq!(refused, Err(Errno::NODEV));
    let known = json!({"source": "x", "type": "no-such-type", "error": [19, "ENODEV"]});
    add("mount.mount", "mount", at("a"), known);
    Ok(json!({"done": done}))
}
