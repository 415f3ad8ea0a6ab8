#!/bin/sh
# Runs three hosts and a NATS cluster of three nodes, kills a node, and checks that nothing is lost.
# Run it as root in the repository.
#
#   WHALEWATCH    the program (default: target/release/whalewatch)
#   NATS_SERVER   the server's program (default: nats-server, from the PATH)
#   DIR           the folder for all files (default: target/fleet; it is emptied)
#   PORT          the first of six free ports (default: 14222)
#   OPENS         how many files each host opens (default: 20000)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
whalewatch=${WHALEWATCH:-target/release/whalewatch}
nats_server=${NATS_SERVER:-nats-server}
dir=${DIR:-target/fleet}
port=${PORT:-14222}
opens=${OPENS:-20000}
nodes="1 2 3"
started=""

fail() {
    echo "fleet: $*" >&2
    exit 1
}

stop_all() {
    for pid in $started; do
        kill "$pid" 2>/dev/null || true
    done
    wait
}
trap stop_all EXIT
trap 'exit 130' INT TERM

# Waits up to 60 s until a command succeeds.
await() {
    what=$1
    shift
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || fail "still waiting for $what"
        sleep 0.2
    done
}

command -v "$nats_server" >/dev/null || fail "no nats-server: install it, or set NATS_SERVER"
[ -x "$whalewatch" ] || fail "no $whalewatch: cargo build --release, or set WHALEWATCH"
[ "$(id -u)" = 0 ] || fail "whalewatch needs root"
rm -rf "$dir"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

servers="" routes="" addresses=""
for node in $nodes; do
    servers="$servers${servers:+, }\"nats://127.0.0.1:$((port + node - 1))\""
    addresses="$addresses${addresses:+,}127.0.0.1:$((port + node - 1))"
    routes="$routes${routes:+,}nats://127.0.0.1:$((port + node + 2))"
done

start_node() {
    "$nats_server" --name "nats-$1" --addr 127.0.0.1 --port $((port + $1 - 1)) --jetstream --store_dir "$dir/nats-$1" \
        --cluster_name fleet --cluster "nats://127.0.0.1:$((port + $1 + 2))" --routes "$routes" \
        --log "$dir/nats-$1.log" &
    eval "node_$1=$!"
    started="$started $!"
}

query() {
    python3 "$here/query.py" --servers "$addresses" "$@"
}

echo "== a cluster of three nodes"
for node in $nodes; do
    start_node "$node"
done

echo "== three hosts"
# Each has a separate host name: a UTS namespace represents a machine.
for host in 1 2 3; do
    mkdir -p "$dir/host-$host"
    sed -e "s|@RUNTIME@|none|" -e "s|@COMM@|job-$host|" -e "s|@SERVERS@|$servers|" -e "s|@DIR@|$dir/host-$host|" \
        "$here/host.toml" >"$dir/host-$host/whalewatch.toml"
    unshare --uts sh -c 'hostname "$1" && exec "$2" run --config "$3/whalewatch.toml" --stats-file "$3/stats.json" 2>"$3/log"' \
        sh "host-$host" "$whalewatch" "$dir/host-$host" &
    eval "host_$host=$!"
    started="$started $!"
done
for host in 1 2 3; do
    await "host-$host to watch" grep -q '^watching: ' "$dir/host-$host/log"
done
await "the stream to have a leader" sh -c 'test -n "$(python3 "$1" --servers "$2" --leader)"' sh "$here/query.py" "$addresses"

echo "== work on all hosts"
# A shell with the name job-N, for the scope of host N. Each redirection opens a file. It continues
# until the file "enough" exists.
work='printf %s "$1" >/proc/self/comm
part=0
until [ $part -ge 20 ] && [ -e "$3" ]; do
    i=0
    while [ $i -lt $(($2 / 20)) ]; do : </etc/hostname; i=$((i + 1)); done
    part=$((part + 1))
    [ $part -lt 2000 ] || exit 1
    sleep 0.2
done'
workers=""
for host in 1 2 3; do
    sh -c "$work" sh "job-$host" "$opens" "$dir/enough" &
    workers="$workers $!"
done

more_than() {
    test "$(query --count)" -gt "$1"
}
await "the first events" more_than 1000
leader=$(query --leader)
before=$(query --count)
echo "== kill $leader, the leader of the stream"
eval "kill -9 \$node_${leader#nats-}"
await "the two other nodes to accept events" more_than $((before + 1000))
touch "$dir/enough"
for pid in $workers; do
    wait "$pid" || fail "the work failed"
done

echo "== stop the hosts: each event is delivered or in a spool"
for host in 1 2 3; do
    eval "pid=\$host_$host"
    kill -TERM "$pid"
    wait "$pid" || fail "host-$host: $(cat "$dir/host-$host/log")"
done

echo "== restart $leader and the hosts, which send their spools"
start_node "${leader#nats-}"
for host in 1 2 3; do
    mv "$dir/host-$host/stats.json" "$dir/host-$host/stats-1.json"
    unshare --uts sh -c 'hostname "$1" && exec "$2" run --config "$3/whalewatch.toml" --stats-file "$3/stats.json" 2>>"$3/log"' \
        sh "host-$host" "$whalewatch" "$dir/host-$host" &
    eval "host_$host=$!"
    started="$started $!"
done
all_there() {
    for host in 1 2 3; do
        out=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["handlers"]["fleet"]["out"])' "$dir/host-$host/stats-1.json")
        test "$(query --filter "fleet.host-$host.>" --count)" -ge "$out" || return 1
    done
}
await "everything to be in the stream" all_there
for host in 1 2 3; do
    eval "pid=\$host_$host"
    kill -TERM "$pid"
    wait "$pid" || fail "host-$host: $(cat "$dir/host-$host/log")"
done

echo "== the events in the stream"
query --check >"$dir/runs.tsv" || fail "see above"
query --by host.name,kind
for host in 1 2 3; do
    python3 - "$dir/host-$host" "$opens" "$(query --filter "fleet.host-$host.>" --count)" <<'CHECK'
import json, sys
folder, opens, got = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
totals = [json.load(open(f"{folder}/{name}.json")) for name in ("stats-1", "stats")]
for total in totals:
    fleet, tracker = total["handlers"]["fleet"], total["trackers"]["opens"]
    assert fleet["dropped"] == fleet["errors"] == tracker["lost"] == 0, total
out = sum(total["handlers"]["fleet"]["out"] for total in totals)
assert out >= opens, f"{folder}: {out} events of {opens} opens"
assert got == out, f"{folder}: {got} events are in the stream, {out} were delivered"
CHECK
done
echo "fleet: nothing lost, no duplicates, all in order"
