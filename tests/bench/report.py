# SPDX-License-Identifier: LGPL-2.1-or-later
"""Summary and table of a bench: medians with their spread, and the best that
each family reached, metric by metric. Nothing here knows what should win."""

import statistics

# Metric: heading, digits after the point, and whether less is better.
METRICS = {
    'total_s': ('total s', 2, True),
    'downtime_ms': ('downtime ms', 0, True),
    'gap_ms': ('gap ms', 0, True),
    'wire_bytes': ('wire MB', 1, True),
    'again_bytes': ('again MB', 1, True),
    'source_cpu_s': ('source CPU s', 2, True),
    'target_cpu_s': ('target CPU s', 2, True),
    'link_share': ('link share', 3, False),
}
SCALE = {'wire_bytes': 1e-6, 'again_bytes': 1e-6}


def spread(values):
    """Median, smallest and largest, or None when there is nothing."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {'median': statistics.median(values), 'min': min(values),
            'max': max(values), 'n': len(values)}


def _best(settings, labels, metric, less):
    found = [(settings[label][metric]['median'], label) for label in labels
             if settings[label][metric]]
    if not found:
        return None
    value, label = (min if less else max)(found)
    return {'median': value, 'setting': label}


def _ratio(first, second):
    if not first or not second or not second['median']:
        return None
    return first['median'] / second['median']


def summary(runs):
    """Per setting the spread of every metric, per family its best, and the
    ratio of dwcp's settings to every other family's best."""
    labels, families = [], {}
    for run in runs:
        if run['label'] not in labels:
            labels.append(run['label'])
            families.setdefault(run['transport'], []).append(run['label'])
    settings = {}
    for label in labels:
        mine = [run for run in runs if run['label'] == label]
        good = [run for run in mine if run['ok']]
        settings[label] = {'runs': len(mine), 'failed': len(mine) - len(good),
                           **{metric: spread(run.get(metric) for run in good)
                              for metric in METRICS}}
    best = {family: {metric: _best(settings, names, metric, METRICS[metric][2])
                     for metric in METRICS}
            for family, names in families.items()}
    ratios = {}
    for label in families.get('dwcp', []):
        ratios[label] = {
            family: {metric: _ratio(settings[label][metric],
                                    best[family][metric])
                     for metric in METRICS}
            for family in families if family != 'dwcp'}
    return {'settings': settings, 'best': best, 'dwcp_to_best': ratios}


def _cell(metric, entry):
    if not entry:
        return '-'
    digits, scale = METRICS[metric][1], SCALE.get(metric, 1)
    numbers = [f'{entry[key] * scale:.{digits}f}'
               for key in ('median', 'min', 'max')]
    return numbers[0] if entry['n'] == 1 else '{} ({}..{})'.format(*numbers)


def rows_text(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in
                               zip(row, widths)).rstrip() for row in rows)


def table(result):
    """The summary as text; medians, smallest and largest in brackets."""
    shown = [m for m in METRICS if any(s[m] for s in
                                       result['settings'].values())]
    rows = [['setting', 'runs', *(METRICS[m][0] for m in shown)]]
    for label, entry in result['settings'].items():
        count = str(entry['runs'])
        if entry['failed']:
            count += f" ({entry['failed']} failed)"
        rows.append([label, count, *(_cell(m, entry[m]) for m in shown)])
    text = rows_text(rows)
    for label, ratios in result['dwcp_to_best'].items():
        for family, values in ratios.items():
            parts = [f'{m} {value:.2f}'
                     for m, value in values.items() if value is not None]
            if parts:
                text += f'\n{label} / best of {family}: ' + ', '.join(parts)
    return text
