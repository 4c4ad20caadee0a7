#!/bin/sh
# Works for a second and then fails, to see what a supervisor makes of it.
echo "crasher: starting, process $$"
echo "crasher: reading its settings"
sleep 1
echo "crasher: the disk of dreams is full" >&2
echo "crasher: giving up" >&2
exit 3
