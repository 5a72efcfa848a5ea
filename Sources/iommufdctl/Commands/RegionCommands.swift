// SPDX-License-Identifier: Apache-2.0

// pread and pwrite on a VFIO device file: single accesses to the registers of a device.

internal import ArgumentParser
internal import CUAPI
internal import Glibc
internal import SystemPackage

/// A register of a device.
struct RegisterOptions: ParsableArguments {
  @OptionGroup var target: DeviceOption
  @Option(help: "The region: 0-5 BARs, 6 expansion ROM, 7 configuration space.")
  var region: Word
  @Option(help: "Offset in the region.") var offset: Number
  @Option(help: "Bytes of the register: 1, 2, 4 or 8.") var width: Int = 4

  /// Calls `body`, which is to transfer `width` bytes at the position that the register has in the
  /// device file.
  /// - Parameter call: the name of the system call, for an error.
  func transfer(
    _ call: String, in session: ScriptSession,
    _ body: (_ device: Int32, _ width: Int, _ position: off_t) -> Int
  ) throws(Failure) {
    guard [1, 2, 4, 8].contains(width) else {
      throw .usage("--width is 1, 2, 4 or 8, not \(width)")
    }
    let info = try DeviceGetRegionInfo.info(
      of: target.device, index: region.value, in: session)
    let count = body(
      target.device, width, off_t(truncatingIfNeeded: info.offset &+ offset.value))
    guard count >= 0 else { throw .call(call, Errno(rawValue: errno)) }
    guard count == width else {
      throw .usage(
        "\(call) of \(width) bytes at offset \(offset.value) of region \(region.value) "
          + "transferred \(count)")
    }
  }
}

struct RegionRead: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "region-read",
    abstract: "Read a register: pread of a region of a device.",
    discussion: """
      The result is the value, read as little-endian.

        iommufdctl region-read --device 4 --region 7 --offset 0
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var register: RegisterOptions

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    var value: UInt64 = 0
    try register.transfer("pread", in: session) { pread($0, &value, $1, $2) }
    return Report("pread", fields: [.hex("value", value)])
  }
}

struct RegionWrite: ScriptableCommand {
  static let configuration = CommandConfiguration(
    commandName: "region-write",
    abstract: "Write a register: pwrite to a region of a device.",
    discussion: """
        iommufdctl region-write --device 4 --region 7 --offset 4 --width 2 0x6
      """)
  @OptionGroup var options: CommonOptions
  @OptionGroup var register: RegisterOptions
  @Argument(help: "The value, stored little-endian.") var value: Number

  func perform(in session: ScriptSession) throws(Failure) -> Report {
    var bytes = value.value.littleEndian
    try register.transfer("pwrite", in: session) { pwrite($0, &bytes, $1, $2) }
    return Report("pwrite")
  }
}
