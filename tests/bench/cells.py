# SPDX-License-Identifier: LGPL-2.1-or-later
"""The links on which the transport alone is measured, and what is asked of
it there.

A cell is RATE:RTT[:LOSS][:NAME=VALUE]..., in Mbit/s, ms and percent. Names:

    burst=PERCENT/PACKETS[/DENSITY]   loss in bursts
    queue=20ms         of the bottleneck (100ms)
    jitter=MS          delay varies by this, up and down
    cc=bbr             the hosts' default congestion control (cubic)
"""

import dataclasses

from settings import SettingError

CC = ('cubic', 'bbr')


@dataclasses.dataclass(frozen=True)
class Cell:
    """asked is the share of the link, or None where nothing is."""

    rate_mbit: float
    rtt_ms: float
    loss: float = 0
    burst: str = '0'
    queue: str = '100ms'
    jitter_ms: float = 0
    cc: str = 'cubic'
    asked: float = dataclasses.field(default=None, compare=False)

    @property
    def name(self):
        """As it is written on the command line."""
        words = [f'{self.rate_mbit:g}', f'{self.rtt_ms:g}']
        extra = [f'{key}={value}' for key, value, usual in (
            ('burst', self.burst.replace(',', '/'), '0'),
            ('queue', self.queue, '100ms'),
            ('jitter', f'{self.jitter_ms:g}', '0'),
            ('cc', self.cc, 'cubic'))
            if value != usual]
        if self.loss or extra:
            words.append(f'{self.loss:g}')
        return ':'.join(words + extra)

    def link(self):
        """What a Testbed is told."""
        return {'rate_mbit': self.rate_mbit, 'rtt_ms': self.rtt_ms,
                'loss': self.loss, 'burst': self.burst, 'queue': self.queue,
                'jitter_ms': self.jitter_ms, 'cc': self.cc}

    @property
    def product_bytes(self):
        """The bandwidth-delay product."""
        return self.rate_mbit * 1e6 / 8 * self.rtt_ms / 1e3


CLEAN = [Cell(rate, rtt, asked=0.95) for rate in (100, 300, 500)
         for rtt in (50, 100, 300, 500)]
LOSS = [Cell(300, 100, 0.1, cc='bbr', asked=0.93),
        Cell(300, 100, 1, cc='bbr', asked=0.93),
        Cell(300, 100, 5, cc='bbr', asked=0.85),
        Cell(300, 100, burst='1,20', cc='bbr', asked=0.85),
        Cell(300, 100, 0.1, asked=0.88),
        Cell(300, 100, 1, asked=0.85)]
# Nothing is promised for these; they show where a change has made it worse.
OTHER = [Cell(900, rtt) for rtt in (50, 100, 300, 500)] + \
        [Cell(rate, rtt, queue='20ms') for rate in (100, 300, 500)
         for rtt in (50, 300)] + \
        [Cell(rate, rtt, jitter_ms=rtt / 10) for rate in (100, 300, 500)
         for rtt in (50, 300)] + \
        [Cell(rate, 100, loss) for rate in (100, 500) for loss in (0.1, 1)]
LISTS = {'clean': CLEAN, 'loss': LOSS, 'gating': CLEAN + LOSS,
         'other': OTHER, 'all': CLEAN + LOSS + OTHER}


def _number(word, cell, what):
    try:
        value = float(word)
    except ValueError:
        value = -1
    if not 0 <= value < 1e6:
        raise SettingError(f'cell "{cell}": "{word}" is no {what}')
    return value


def parse(text):
    """One cell; what is asked of it is known if it is in a list."""
    words = text.split(':')
    plain = [word for word in words if '=' not in word]
    named = dict(word.split('=', 1) for word in words if '=' in word)
    if not 2 <= len(plain) <= 3 or words[:len(plain)] != plain:
        raise SettingError(f'cell "{text}" is not RATE:RTT[:LOSS]'
                           '[:NAME=VALUE]...')
    values = {}
    for name, word in zip(('rate_mbit', 'rtt_ms', 'loss'), plain):
        values[name] = _number(word, text, name)
    for name, word in named.items():
        if name == 'jitter':
            values['jitter_ms'] = _number(word, text, name)
        elif name == 'burst':
            values['burst'] = word.replace('/', ',')
        elif name == 'queue' or (name == 'cc' and word in CC):
            values[name] = word
        else:
            raise SettingError(f'cell "{text}": {name}={word} is unknown')
    cell = Cell(**values)
    if cell.rate_mbit == 0:
        raise SettingError(f'cell "{text}": a share of no rate')
    return next((one for one in LISTS['all'] if one == cell), cell)


def parse_list(text):
    found = []
    for word in text.split(','):
        wanted = LISTS.get(word.strip()) or [parse(word.strip())]
        found += [cell for cell in wanted if cell not in found]
    return found
