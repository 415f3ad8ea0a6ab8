#!/bin/sh
# The first process of a guest. It runs the checks on the kernel's command line (`checks=…`) and
# reports over the second serial port, in parts that each begin with a line `@@ NAME`. The host
# judges them.

export PATH=/bin HOME=/ DOCKER_HOST=unix:///no/daemon
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
hostname guest
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
stty -F /dev/ttyS1 raw
exec </dev/null >/dev/ttyS1 2>&1

group=/sys/fs/cgroup
old_container=1111111111111111111111111111111111111111111111111111111111111111
new_container=2222222222222222222222222222222222222222222222222222222222222222
nonce=whalewatch-kernels

part() { # NAME FILE
    echo
    echo "@@ $1"
    cat "$2"
}

# Runs a command and reports its outputs and its exit code.
report() { # NAME COMMAND...
    name=$1
    shift
    "$@" >/tmp/out 2>/tmp/err
    echo $? >/tmp/code
    for what in code out err; do part "$name.$what" /tmp/$what; done
}

doctor() { # NAME [WRAPPER...]
    name=$1
    shift
    report "$name.doctor" "$@" whalewatch doctor --format json
}

# Runs on a host that lacks something. If `trace` watches nevertheless, it exits by itself with code
# 0, which the host finds wrong.
fails() { # NAME [WRAPPER...]
    case=$1
    shift
    report "$case.trace" "$@" whalewatch trace --format json --duration 100ms
    doctor "$case" "$@"
}

# Watches a workload, and stops as an operator does. By then every event must be printed.
watched="process cgroup"
watch() { # NAME WORKLOAD [WRAPPER...]
    name=$1
    work=$2
    shift 2
    # The output of an earlier run must not count for this one.
    rm -f /tmp/out /tmp/err /tmp/stats
    touch /tmp/out /tmp/err /tmp/stats && chmod 666 /tmp/out /tmp/err /tmp/stats
    "$@" whalewatch trace $watched --format json --duration 60s --stats-file /tmp/stats >/tmp/out 2>/tmp/err &
    tracer=$!
    until grep -q ^watching: /tmp/err || ! kill -0 $tracer; do usleep 20000; done
    $work >/dev/null 2>&1
    # Not by pid: it may be the pid of a wrapper that made a namespace.
    killall -INT whalewatch
    wait $tracer
    echo $? >/tmp/code
    for what in code out err stats; do part "$name.trace.$what" /tmp/$what; done
}

echo_only() {
    /bin/echo $nonce-echo
}

works() { # NAME [WRAPPER...]
    case=$1
    shift
    watch "$case" echo_only "$@"
    doctor "$case" "$@"
}

# Starts a container's process before the watching begins.
old_process() {
    mkdir -p $group/docker/$old_container
    sh -c "echo 0 >$group/docker/$old_container/cgroup.procs; exec /bin/sleep 1000" &
    old=$!
    until grep -q $old_container /proc/$old/cgroup && grep -q sleep /proc/$old/comm; do usleep 20000; done
}

workload() {
    /bin/echo $nonce-plain
    /bin/sh -c 'exit 3' $nonce-three
    /bin/sh -c 'kill -9 $$' $nonce-killed
    mkdir $group/docker/$new_container
    /bin/sh -c "echo 0 >$group/docker/$new_container/cgroup.procs; /bin/echo $nonce-child; exec /bin/echo $nonce-container"
    rmdir $group/docker/$new_container
    /bin/unshare --pid --fork /bin/sh -c "exec /bin/sh -c '/bin/echo $nonce-second; exit 4' $nonce-first"
    kill $old
    wait $old
}

# Runs each tracker alone, while something happens that most of them report.
each_tracker() {
    for tracker_name in $(cat /trackers); do
        watched=$tracker_name
        watch "tracker-$tracker_name" something
    done
    watched="process cgroup"
}

something() {
    cat /etc/passwd /no/such/file
    mkdir $group/something && rmdir $group/something
    mkdir /tmp/mounted && mount -t tmpfs something /tmp/mounted && umount /tmp/mounted
    rmdir /tmp/mounted
    sleep 1000 &
    kill $!
    wait $!
    unshare -m true
    ifconfig lo up
    nc -l -p 1234 >/dev/null &
    until netstat -ltn | grep -q 1234; do usleep 20000; done
    echo | nc 127.0.0.1 1234
    wait $!
}

# Simulates a kernel that lacks a name: alters the name's last letter in the type information.
without() { # CASE NAME
    cat /sys/kernel/btf/vmlinux >/tmp/btf
    set -- "$1" "$2" $(strings -t d /tmp/btf | grep " $2\$")
    printf '?' | dd of=/tmp/btf bs=1 seek=$(($3 + ${#2} - 1)) conv=notrunc 2>/dev/null
    mount --bind /tmp/btf /sys/kernel/btf/vmlinux
    fails "$1"
    umount /sys/kernel/btf/vmlinux
}

type_information() {
    mount -t tmpfs none /sys/kernel/btf
    fails no-btf
    umount /sys/kernel/btf
    head -c 100000 /sys/kernel/btf/vmlinux >/tmp/cut
    mount --bind /tmp/cut /sys/kernel/btf/vmlinux
    fails cut-btf
    umount /sys/kernel/btf/vmlinux
    without no-member start_boottime
    without no-tracepoint btf_trace_sched_process_exec
}

watching() {
    mount -t cgroup2 cgroup $group
    doctor whole
    old_process
    watch whole workload
    each_tracker
}

# After `watching`.
lacking() {
    fails user su nobody -c '"$0" "$@"' --
    fails user-namespace unshare --user --map-root-user
    works capable /bin/setpriv --reuid 65534 --regid 65534 --clear-groups \
        --inh-caps +bpf,+perfmon --ambient-caps +bpf,+perfmon
    works pid-namespace unshare --pid --fork --mount-proc
    mount -t tracefs tracefs /sys/kernel/tracing
    works tracefs
    umount /sys/kernel/tracing
    type_information
    umount $group
    works no-cgroups
}

lockdown() {
    fails hidden-lockdown
    mount -t securityfs securityfs /sys/kernel/security
    fails lockdown
}

integrity() {
    mount -t securityfs securityfs /sys/kernel/security
    works integrity
}

for word in $(cat /proc/cmdline); do
    case $word in
    checks=*) for checks in $(echo ${word#checks=} | tr , ' '); do $checks; done ;;
    esac
done
part end /dev/null
# The kernel buffers output to a serial port.
sleep 0.5
reboot -f
