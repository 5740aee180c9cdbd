#!/usr/bin/env bash
# Compresses a ResNet on ImageNet; without arguments it prints how to call it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/three_phases.sh"
three_phases imagenet "$@"
