// KVM is told which VFIO files belong to a virtual machine (virt/kvm/vfio.c), by an attribute of a device of
// its own. It takes only files that the kernel's VFIO has opened, and VMMs take a refusal for fatal. What KVM
// does with a file, for cache coherency and for what a mediated device asks of it, nothing here needs; so the
// answer for one of ours is that it was taken.

internal import Host
internal import SystemPackage
internal import UAPI

/// <linux/kvm.h>
enum KVMDevice {
  /// KVM_SET_DEVICE_ATTR
  static let setAttribute: UInt32 = 0x4018_aee1

  /// struct kvm_device_attr
  struct Attribute: BitwiseCopyable {
    let flags: UInt32
    let group: UInt32
    let attribute: UInt64
    let address: UInt64

    /// KVM_DEV_VFIO_FILE with KVM_DEV_VFIO_FILE_ADD or _DEL: `address` is that of a descriptor.
    var isOfFile: Bool { flags == 0 && group == 1 && (attribute == 1 || attribute == 2) }
  }
}

extension Supervisor {
  /// Answers for files of ours; about everything else KVM itself knows.
  func setKVMAttribute(_ call: TrappedCall) -> Answer {
    let client = client(of: call)
    guard let attribute = try? client.load(KVMDevice.Attribute.self, at: call[2]),
      attribute.isOfFile,
      let number = try? client.load(Int32.self, at: attribute.address),
      ProcFile.link(
        "/proc/\(call.task.id)/fd/\(call.descriptor(0))", is: "anon_inode:kvm-vfio"),
      let entry = try? client.begin(number)
    else { return .native }
    defer { files.end(entry) }
    return entry.file.isVFIODevice ? .value(0) : .native
  }
}
