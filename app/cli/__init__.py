"""The command line, `bitcell`: one module per group of commands.

Commands import what they need when they run, so that `bitcell --help` starts quickly.
"""
