#!/usr/bin/env bash
# Compresses a ResNet on CIFAR-10; without arguments it prints how to call it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/three_phases.sh"
three_phases cifar10 "$@"
