"""VQ-BeT from nothing to a robot that pushes the T: the modules that the lessons export and what serves them.

Importing the package loads neither torch nor lerobot; import the module that you need.
"""
__version__ = "0.1.0"
