# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plot of what the link carried over time, by gnuplot, as SVG."""

import subprocess


def read_series(path):
    """The emulator's file: rows of milliseconds and bytes from source to
    target in the 100 ms before."""
    rows = []
    with open(path, encoding='ascii') as file:
        for line in file:
            words = line.split()
            if len(words) >= 2 and words[0].isdigit():
                rows.append((int(words[0]) / 1e3, int(words[1])))
    return rows


def cumulate(rows):
    total, points = 0, [(0.0, 0)]
    for seconds, count in rows:
        total += count
        points.append((seconds, total))
    return points


def draw(path, title, curves):
    """curves: name and points (seconds, bytes) of each. False when gnuplot is
    not there."""
    script = [f'set terminal svg size 900,540 background rgb "white"',
              f'set output "{path}"', f'set title "{title}"',
              'set xlabel "seconds"', 'set ylabel "MB on the wire"',
              'set key right bottom', 'set grid']
    lines = [f'"-" with lines linewidth 2 title "{name}"'
             for name, _ in curves]
    script.append('plot ' + ', '.join(lines))
    for _, points in curves:
        script += [f'{seconds:.3f} {count / 1e6:.6f}'
                   for seconds, count in points]
        script.append('e')
    try:
        subprocess.run(['gnuplot'], input='\n'.join(script) + '\n', text=True,
                       check=True, capture_output=True)
    except FileNotFoundError:
        return False
    return True
