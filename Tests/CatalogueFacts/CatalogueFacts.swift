// SPDX-License-Identifier: Apache-2.0

// Prints the ioctl catalogue for scripts/dev/check/uapi, one fact per line, in the words of
// Tests/Layout/print.h:
//
//   ioctl NAME number N owner O size S minimum M struct T      without "struct T" when it has none
//   record struct T size S
//   field struct T.MEMBER size S
//   flag NAME VALUE

import UAPI

@main
enum CatalogueFacts {
  static func main() {
    for ioctl in IoctlTable.iommufd.rows + IoctlTable.vfioDevice.rows { print(ioctl) }
  }

  private static func print(_ ioctl: Ioctl) {
    let structure = ioctl.structure
    Swift.print(
      "ioctl \(ioctl.name) number \(ioctl.number.rawValue) owner \(ioctl.owner)",
      "size \(ioctl.size) minimum \(ioctl.minimumSize)"
        + (structure.map { " struct \($0.name)" } ?? ""))
    guard let structure else { return }
    Swift.print("record struct \(structure.name) size \(structure.size)")
    for field in structure.fields {
      Swift.print("field struct \(structure.name).\(field.name) size \(field.size)")
    }
    for flag in structure.flags.values.joined() { Swift.print("flag \(flag.name) \(flag.value)") }
  }
}
