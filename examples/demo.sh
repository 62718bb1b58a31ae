#!/usr/bin/env bash
# make demo: the same training twice, first as it is and then treated, each watched.
set -u
bin=$1
out=demo-out
rm -rf "$out"
mkdir -p "$out"
sick=(examples/char_rnn.py --gain 1.2 --clip 0 --steps 100)

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
final() { grep -h '^final_loss=' "$1" | cut -d= -f2; }

say "1. A character RNN whose recurrent weights are too large, without clipping:"
echo "   gainstage run ${sick[*]}"
"$bin/gainstage" run --out "$out/exploding" "${sick[@]}" | tee "$out/exploding.txt"

say "2. The same script, treated from outside:"
echo "   gainstage run --treat clip-global-norm:max_norm=1 ${sick[*]}"
"$bin/gainstage" run --out "$out/treated" --treat clip-global-norm:max_norm=1 "${sick[@]}" |
  tee "$out/treated.txt"

say "3. What came of it:"
echo "   final loss untreated  $(final "$out/exploding.txt")"
echo "   final loss treated    $(final "$out/treated.txt")"
echo "   what the record says  $bin/gainstage report $out/exploding --json"
for run in exploding treated; do
  "$bin/gainstage" report "$out/$run" --html "$out/$run.html"
done
echo "   the pictures: open $out/exploding.html and $out/treated.html"
