# SPDX-License-Identifier: LGPL-2.1-or-later
"""The transports that can be measured, and how QEMU is told to use them.

A family is what --against names; it stands for one or more settings, of which
the best counts, metric by metric (a number may be left empty, as in dwcp::0):

    plain                        one TCP stream
    multifd[:CHANNELS]           4 channels, no compression
    multifd-zstd[:CHANNELS[:LEVEL]]   8 and 16 channels, levels 1 and 3
    multifd-zlib[:CHANNELS[:LEVEL]]   8 and 16 channels, level 1
    xbzrle[:CACHE_MIB]           256 MiB of cache
    dwcp[:STREAMS[:LEVEL]]       streams and level of libdwcp's choice; encrypted
    dwcp-none[:STREAMS[:LEVEL]]  the same in plain text (security=none)
"""

import dataclasses

# Enough for any link; 0 would also take away QEMU's notion of a rate.
MAX_BANDWIDTH = 1 << 40
PORT = 4444
# What both sides of an encrypted migration know, when QMP drives it; libvirt
# makes keys of its own.
SECRET = {'id': 'dwcp-secret', 'data': 'only between namespaces here'}
MIB = 1 << 20


class SettingError(Exception):
    """A transport that cannot be understood."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to migrate. values are the family's numbers, by name."""

    family: str
    values: tuple

    @property
    def label(self):
        numbers = [str('' if self.get(name) is None else self.get(name))
                   for name in FAMILIES[self.family][0]]
        return ':'.join([self.family, *numbers]).rstrip(':')

    def get(self, name):
        return dict(self.values).get(name)

    @property
    def is_dwcp(self):
        return self.family.startswith('dwcp')

    def capabilities(self):
        if self.family.startswith('multifd'):
            return ['multifd']
        if self.family == 'xbzrle':
            return ['xbzrle']
        return []

    def parameters(self):
        """Migration parameters, for both sides."""
        if self.family == 'xbzrle':
            return {'xbzrle-cache-size': self.get('cache_mib') * MIB}
        if not self.family.startswith('multifd'):
            return {}
        wanted = {'multifd-channels': self.get('channels')}
        method = self.family.partition('-')[2]
        if method:
            wanted['multifd-compression'] = method
            wanted[f'multifd-{method}-level'] = self.get('level')
        return wanted

    def address(self, host, source):
        """The MigrationAddress; streams and level are the source's alone."""
        if not self.is_dwcp:
            return {'transport': 'socket', 'type': 'inet', 'host': host,
                    'port': str(PORT)}
        address = {'transport': 'dwcp', 'host': host, 'port': str(PORT),
                   'security': 'none'}
        if self.family == 'dwcp':
            address.update(security='psk', secret=SECRET['id'])
        if source:
            address.update(self.values)
        return address

    def channels(self, host, source):
        """The channels argument of migrate and migrate-incoming."""
        return [{'channel-type': 'main', 'addr': self.address(host, source)}]

    def virsh(self):
        """virsh migrate's options."""
        if self.family == 'plain':
            return []
        if self.is_dwcp:
            plain = ['--dwcp-security', 'none']
            return ['--dwcp', *(plain if self.family == 'dwcp-none' else []),
                    *(word for name, value in self.values
                      for word in (f'--dwcp-{name}', str(value)))]
        if self.family == 'xbzrle':
            return ['--compressed', '--comp-methods', 'xbzrle',
                    '--comp-xbzrle-cache', str(self.get('cache_mib') * MIB)]
        words = ['--parallel', '--parallel-connections',
                 str(self.get('channels'))]
        method = self.family.partition('-')[2]
        if method:
            words += ['--comp-methods', method, f'--comp-{method}-level',
                      str(self.get('level'))]
        return words

    def apply(self, monitor, downtime_ms):
        """Sets capabilities and parameters on one side."""
        names = ['events', *self.capabilities()]
        monitor.cmd('migrate-set-capabilities', capabilities=[
            {'capability': name, 'state': True} for name in names])
        monitor.cmd('migrate-set-parameters', **{
            'max-bandwidth': MAX_BANDWIDTH, 'downtime-limit': downtime_ms,
            **self.parameters()})
        if self.family == 'dwcp':
            monitor.cmd('object-add', **{'qom-type': 'secret', **SECRET})


# Family: names of its numbers, and what they are when not said.
FAMILIES = {
    'plain': ((), ((),)),
    'multifd': (('channels',), ((4,),)),
    'multifd-zstd': (('channels', 'level'), ((8, 1), (8, 3), (16, 1),
                                             (16, 3))),
    'multifd-zlib': (('channels', 'level'), ((8, 1), (16, 1))),
    'xbzrle': (('cache_mib',), ((256,),)),
    'dwcp': (('streams', 'level'), ((None, None),)),
    'dwcp-none': (('streams', 'level'), ((None, None),)),
}


def parse(word, streams=None, level=None):
    """The settings that a word of --against stands for; streams and level
    are dwcp's where the word does not say them."""
    family, *numbers = word.split(':')
    if family not in FAMILIES:
        raise SettingError(f'unknown transport "{family}"; there are '
                           + ', '.join(FAMILIES))
    names, defaults = FAMILIES[family]
    if len(numbers) > len(names) or not all(n.isdigit() or not n
                                            for n in numbers):
        form = ':'.join([family, *(f'[{name.upper()}]' for name in names)])
        raise SettingError(f'"{word}" is not {form}')
    if family.startswith('dwcp'):
        default = dict(zip(names, defaults[0]))
        default['streams'] = default['streams'] if streams is None else streams
        default['level'] = default['level'] if level is None else level
        defaults = (tuple(default.values()),)
    found = []
    for choice in defaults:
        values = [int(n) if n else usual for n, usual
                  in zip([*numbers, *['']*len(names)], choice)]
        setting = Setting(family, tuple(
            (n, v) for n, v in zip(names, values) if v is not None))
        if setting not in found:
            found.append(setting)
    return found


def parse_list(text, streams=None, level=None):
    found = []
    for word in text.split(','):
        found += [s for s in parse(word.strip(), streams, level)
                  if s not in found]
    return found
