"""Nodes in network namespaces of their own, behind a router that the test is:
its own namespace, made by starting it again below unshare. Nothing has a
name, so that nothing can be left behind: a namespace ends with the process
that holds it, and that ends with the test.

    node 1  10.77.1.2 --- 10.77.1.1  the test, with the chain on 10.77.0.1
    node 2  10.77.2.2 --- 10.77.2.1  and the loopback
"""
import contextlib
import os
import subprocess
import sys

from probe import check, until

CHAIN = "10.77.0.1"


def enter():
    """Call first. Without the rights for it the test ends, and says so."""
    if "REGRESS_NETNS" in os.environ:
        run("ip link set lo up")
        run(f"ip addr add {CHAIN}/32 dev lo")
        with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
            f.write("1")
        return
    check(os.geteuid() == 0, "network namespaces need root")
    os.environ["REGRESS_NETNS"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, *sys.argv])


def run(command, prefix=()):
    done = subprocess.run([*prefix, *command.split()], text=True,
                          capture_output=True)
    check(done.returncode == 0, command, done.stderr)


def link_of(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


class Namespace:
    """prefix starts a command in it; number is 1 to 250."""

    def __init__(self, number):
        self.number = number
        self.gateway, self.host = (f"10.77.{number}.{i}" for i in (1, 2))
        self.veth = f"node{number}"
        # Ends with the thread that starts it: the test's first one.
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "-n", "sleep",
             "infinity"], stdin=subprocess.DEVNULL)
        try:
            pid = self.holder.pid
            own = link_of("self")
            until(lambda: link_of(pid) != own, "a namespace of its own")
            self.prefix = ["nsenter", "-n", "-t", str(pid), "--"]
            run(f"ip link add {self.veth} type veth peer name eth0 "
                f"netns {pid}")
            run(f"ip addr add {self.gateway}/24 dev {self.veth}")
            run(f"ip link set {self.veth} up")
            for command in (f"ip addr add {self.host}/24 dev eth0",
                            "ip link set eth0 up", "ip link set lo up",
                            f"ip route add default via {self.gateway}"):
                run(command, self.prefix)
        except BaseException:
            self.close()
            raise

    def link(self, up):
        """The wire itself: nobody can be reached, the chain neither."""
        run(f"ip link set {self.veth} {'up' if up else 'down'}")

    def close(self):
        # It would go with the namespace, but when the kernel has time.
        with contextlib.suppress(AssertionError):
            run(f"ip link del {self.veth}")
        self.holder.kill()
        self.holder.wait()


class Cuts:
    """Which ordered pairs cannot speak: what the first sends to the second is
    lost in the router, without a word."""

    def __init__(self):
        self.rules = set()

    def cut(self, source, target):
        rule = f"from {source.host} to {target.host} blackhole"
        if rule not in self.rules:
            run(f"ip rule add {rule}")
            self.rules.add(rule)

    def split(self, one, other):
        """Between two groups, both ways."""
        for a in one:
            for b in other:
                self.cut(a, b)
                self.cut(b, a)

    def heal(self):
        for rule in self.rules:
            run(f"ip rule del {rule}")
        self.rules.clear()
