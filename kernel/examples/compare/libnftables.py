# libnftables in a process that stays: commands on stdin, each after its length; nanoseconds on stdout.
import sys
import time

import nftables

nft = nftables.Nftables()
read = sys.stdin.buffer
while line := read.readline():
    command = read.read(int(line)).decode()
    start = time.perf_counter_ns()
    status, _, error = nft.cmd(command)
    elapsed = time.perf_counter_ns() - start
    print(elapsed if status == 0 else "error " + error.replace("\n", " "), flush=True)
