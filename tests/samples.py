"""Small inputs that several test modules share."""

CM_TEXT = """\
LA_1 - bonafide 2.5
LA_2 A07 spoof -1.25
LA_3 A08 spoof 4.0
LA_4 - bonafide 3e0
"""
ASV_TEXT = "- target 2.0\n- target 3.0\n- nontarget 0.0\n- nontarget 1.0\nA07 spoof 5.0\nA08 spoof -1.0\n"
