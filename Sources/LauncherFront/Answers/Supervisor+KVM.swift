// SPDX-License-Identifier: Apache-2.0

// A VMM passes its VFIO files to KVM by an attribute of KVM's VFIO device (virt/kvm/vfio.c). KVM
// accepts only files that the kernel's VFIO has opened, and VMMs treat a refusal as fatal. KVM uses
// the files for cache coherency and for mediated devices, neither of which matters here. So the
// supervisor answers for its own VFIO files that KVM has accepted them.

internal import Host
internal import SystemPackage
internal import UAPI

/// Definitions of <linux/kvm.h>.
enum KVMDevice {
  /// KVM_SET_DEVICE_ATTR
  static let setAttribute: UInt32 = 0x4018_aee1

  /// struct kvm_device_attr
  struct Attribute: BitwiseCopyable {
    let flags: UInt32
    let group: UInt32
    let attribute: UInt64
    let address: UInt64

    /// Whether the attribute is KVM_DEV_VFIO_FILE_ADD or KVM_DEV_VFIO_FILE_DEL of
    /// KVM_DEV_VFIO_FILE. `address` is then the address of a descriptor number.
    var isVFIOFile: Bool { flags == 0 && group == 1 && (attribute == 1 || attribute == 2) }
  }
}

extension Supervisor {
  /// Answers KVM_SET_DEVICE_ATTR for VFIO files of this server. KVM itself answers all others.
  func setKVMAttribute(_ call: TrappedCall) -> Answer {
    let client = client(of: call)
    guard let attribute = try? client.load(KVMDevice.Attribute.self, at: call[2]),
      attribute.isVFIOFile,
      let number = try? client.load(Int32.self, at: attribute.address),
      ProcFile.link(
        "/proc/\(call.task.id)/fd/\(call.descriptor(0))", is: "anon_inode:kvm-vfio"),
      let entry = try? client.beginCall(on: number)
    else { return .native }
    defer { files.endCall(on: entry) }
    return entry.file.isVFIODevice ? .value(0) : .native
  }
}
