#!/usr/bin/env python3
"""Disassembles the GPU code of object files and holds its memory accesses against a table.

    check_sass.py --table kernels.txt [--cuda-bin FOLDER] [--arch sm_90a] OBJECT...

Compilers split accesses without a word: a store of 16 bytes as four of 4 gives the right numbers at a lower speed. The
table says, per kernel, how many accesses to global memory are wide and how many may be narrow, and whether registers may
spill. Every kernel needs a line, and every line a kernel. Exit status: 0 all hold, 1 some do not, 2 cannot run; prints
SKIPPED and exits with 0 without cuobjdump and nvdisasm, which come with CUDA or by tools/setup.sh."""

import argparse
import collections
import concurrent.futures
import fnmatch
import os
import pathlib
import re
import shutil
import subprocess
import sys

WIDTHS = ('128', '64', '32', '16')
WIDE = {width: WIDTHS[:i + 1] for i, width in enumerate(WIDTHS)}
COLUMNS = ('loads', 'narrow loads', 'stores', 'narrow stores')

Counts = collections.namedtuple('Counts', 'global_accesses spills')  # {('L' or 'S', width): n}, n
Row = collections.namedtuple('Row', 'line pattern width limits spills')


def fail(message):
    print(f'check_sass: {message}', file=sys.stderr)
    sys.exit(2)


def read_table(path):
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split('#')[0].split()
        if not fields:
            continue
        if len(fields) != 7 or fields[1] not in WIDE or not all(f.isdigit() for f in fields[2:6]) or \
                not re.fullmatch('none|any|[0-9]+', fields[6]):
            fail(f'{path}:{number}: expected "kernel width loads narrow stores narrow none|any|N", not "{line}"')
        rows.append(Row(number, fields[0], fields[1], [int(f) for f in fields[2:6]], fields[6]))
    return rows


def find_tools(folders):
    """cuobjdump and nvdisasm from the same of `folders`, or from PATH."""
    for folder in [*folders, None]:
        tools = [shutil.which(name, path=folder) for name in ('cuobjdump', 'nvdisasm')]
        if all(tools):
            return tools
    return None


def width_of(operation):
    for part in operation.split('.')[1:]:
        if part in ('128', '64'):
            return part
        if part in ('U8', 'S8', 'U16', 'S16'):
            return '16'
    return '32'


def count_accesses(sass):
    """{mangled name: Counts} from cuobjdump's text."""
    kernels, accesses, spills = {}, None, 0
    instruction = re.compile(r'\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]+ +)?((?:LDG|LDGSTS|STG|LDL|STL|LD|ST)\b[.\w]*)')
    for line in sass.splitlines():
        if 'Function : ' in line:
            name = line.split('Function : ')[1].strip()
            accesses = collections.Counter()
            kernels[name] = Counts(accesses, [0])
        elif found := instruction.match(line):
            operation = found[1]
            if operation.split('.')[0] in ('LDL', 'STL'):
                kernels[name].spills[0] += 1
            else:
                accesses[operation[0], width_of(operation)] += 1
    return kernels


def readable_names(path, names):
    """<file>/<kernel><template arguments>, without spaces, for mangled names."""
    text = subprocess.run(['c++filt'], input='\n'.join(names), capture_output=True, text=True, check=True).stdout
    result = []
    for name in text.splitlines():
        found = re.search(r'(?:::|^|\s)(\w+(?:<[^<>]*>)?)\(', name.replace('(anonymous namespace)::', ''))
        kernel = (found[1] if found else name).replace('__nv_bfloat16', 'bf16').replace(' ', '')
        result.append(f'{path.name.split(".")[0]}/{kernel}')
    return result


def disassemble(tools, arch, path):
    """{readable name: Counts} of one object file."""
    environment = dict(os.environ, NVDISASM_PATH=str(pathlib.Path(tools[1]).parent))
    run = subprocess.run([tools[0], '-arch', arch, '-sass', path], capture_output=True, text=True, env=environment)
    if run.returncode != 0:
        fail(f'{tools[0]} cannot read {path}: {run.stderr.strip() or "no message"}')
    kernels = count_accesses(run.stdout)
    return dict(zip(readable_names(path, kernels), kernels.values()))


def faults_of(counts, row):
    wide = WIDE[row.width]
    got = []
    for letter in 'LS':
        of_width = {width: n for (kind, width), n in counts.global_accesses.items() if kind == letter}
        got += [sum(n for width, n in of_width.items() if width in wide),
                sum(n for width, n in of_width.items() if width not in wide)]
    faults = []
    for column, n, limit in zip(COLUMNS, got, row.limits):
        if column.startswith('narrow') and n > limit:
            faults.append(f'{n} {column} below {row.width} bits, at most {limit} expected')
        if not column.startswith('narrow') and n < limit:
            faults.append(f'{n} {column} of {row.width} bits or more, at least {limit} expected')
    allowed = {'none': 0, 'any': counts.spills[0]}.get(row.spills)
    allowed = int(row.spills) if allowed is None else allowed
    if counts.spills[0] > allowed:
        faults.append(f'{counts.spills[0]} accesses to local memory (spilled registers), at most {allowed} expected')
    return got, faults


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--table', type=pathlib.Path, required=True)
    parser.add_argument('--cuda-bin', action='append', default=[], help='where to look before PATH; may be repeated')
    parser.add_argument('--arch', default='sm_90a')
    parser.add_argument('--print', action='store_true', help='also print what was counted, as lines of the table')
    parser.add_argument('objects', nargs='+', type=pathlib.Path)
    arguments = parser.parse_args()
    tools = find_tools(arguments.cuda_bin)
    if not tools:
        print('SKIPPED: no cuobjdump and nvdisasm beside nvcc, in PATH, or fetched by tools/setup.sh')
        return 0
    rows = read_table(arguments.table)

    kernels = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda path: disassemble(tools, arguments.arch, path), arguments.objects):
            kernels.update(found)
    if not kernels:
        fail(f'no code for {arguments.arch} in the object files')

    unused, failures = {row.line for row in rows}, []
    for name in sorted(kernels):
        row = next((row for row in rows if fnmatch.fnmatchcase(name, row.pattern)), None)
        if row is None:
            failures.append(f'{name}: no line for it in {arguments.table}')
            row = Row(0, name, '128', [0, 0, 0, 0], 'none')
        unused.discard(row.line)
        got, faults = faults_of(kernels[name], row)
        if arguments.print:
            print(f'{name:<58}{row.width:>4}' + ''.join(f'{n:>6}' for n in got) + f'  spills {kernels[name].spills[0]}')
        if row.line:
            failures += [f'{name}: {fault} (line {row.line})' for fault in faults]
    failures += [f'line {row.line}, "{row.pattern}", describes no kernel' for row in rows if row.line in unused]
    for failure in failures:
        print(f'check_sass: {failure}', file=sys.stderr)
    print(f'check_sass: {len(kernels)} kernels for {arguments.arch}, {len(failures)} faults')
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
